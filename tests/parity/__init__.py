"""Both selves of the kernels, compiled and uncompiled, held against each other and against bad input."""
