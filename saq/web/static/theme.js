// The theme that was chosen, before anything is drawn. A classic script in the head, for a module would come too late.
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("saq.theme");
  } catch {
    // No storage is allowed here: the system's theme it is.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
