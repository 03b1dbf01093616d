"""Gates that keep the speed: what may not become worse, checked where noise cannot hide it."""
