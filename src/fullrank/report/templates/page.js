// Draws the figures in the colours of the theme in use, and again when the theme changes.
(() => {
  "use strict";
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = [...document.querySelectorAll("[data-figure]")];
  const config = { displayModeBar: false, responsive: true, showTips: false, doubleClick: false };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => root.dataset.theme || (system.matches ? "dark" : "light");

  const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

  // "var(--name)" is a colour of the style sheet; "var(--sequence-40)" lies 40 % along its scale.
  function palette() {
    const style = getComputedStyle(root);
    const named = (name) => style.getPropertyValue(name).trim();
    const stops = [0, 1, 2, 3, 4].map((i) => channels(named(`--scale-${i}`)));
    const along = (share) => {
      const place = Math.min(share * 4, 3.9999);
      const [from, to, mix] = [stops[Math.floor(place)], stops[Math.floor(place) + 1], place % 1];
      return `rgb(${from.map((c, i) => Math.round(c + (to[i] - c) * mix)).join(",")})`;
    };
    return (text) => {
      const found = /^var\((--[\w-]+)\)$/.exec(text);
      if (!found) return text;
      const step = /^--sequence-(\d+)$/.exec(found[1]);
      return step ? along(Number(step[1]) / 100) : named(found[1]);
    };
  }

  function coloured(value, colour) {
    if (typeof value === "string") return colour(value);
    if (Array.isArray(value)) return value.map((item) => coloured(item, colour));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, coloured(v, colour)]));
  }

  function draw() {
    const colour = palette();
    const font = getComputedStyle(document.body).fontFamily;
    return Promise.all(
      plots.map((plot) => {
        const { data, layout } = coloured(figures[plot.dataset.figure], colour);
        layout.font.family = font;
        return Plotly.react(plot, data, layout, config);
      }),
    );
  }

  function inspect() {
    root.dataset.overflow = String(root.scrollWidth > root.clientWidth);
  }

  const button = document.getElementById("theme");
  const label = () => {
    const other = theme() === "dark" ? "light" : "dark";
    button.textContent = other === "dark" ? "Dark" : "Light";
    button.setAttribute("aria-label", `Show this page in ${other} colours`);
  };
  button.addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("fullrank-theme", root.dataset.theme);
    } catch {
      // Not remembered, then.
    }
    label();
    draw();
  });
  system.addEventListener("change", () => {
    label();
    draw();
  });

  // Paper is light, whatever the screen is.
  let onScreen;
  window.addEventListener("beforeprint", () => {
    onScreen = root.dataset.theme;
    root.dataset.theme = "light";
    document.querySelectorAll("details").forEach((part) => (part.open = true));
    draw();
  });
  window.addEventListener("afterprint", () => {
    if (onScreen) root.dataset.theme = onScreen;
    else delete root.dataset.theme;
    draw();
  });

  button.hidden = false;
  label();
  window.addEventListener("resize", inspect);
  draw().then(() => {
    root.dataset.drawn = String(plots.length);
    inspect();
  });
})();
