// Runs first: the theme before anything is painted, and errors written where a test can see them.
(() => {
  "use strict";
  const root = document.documentElement;
  const note = (text) => {
    root.dataset.errors = (root.dataset.errors ? root.dataset.errors + " | " : "") + text;
  };
  window.addEventListener("error", (event) => note(String(event.message)));
  window.addEventListener("unhandledrejection", (event) => note(String(event.reason)));
  document.addEventListener("securitypolicyviolation", (event) =>
    note(`${event.violatedDirective}: ${event.blockedURI}`),
  );
  try {
    const theme = localStorage.getItem("fullrank-theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch {
    // Storage may be closed to local files; the theme of the system is used.
  }
})();
