// The menu on narrow screens. Without this script the links simply stand there.
(() => {
  "use strict";
  const nav = document.querySelector(".top nav");
  if (!nav) return;
  document.documentElement.classList.add("js");

  const button = document.createElement("button");
  button.type = "button";
  button.className = "menu";
  button.textContent = "Menu";
  button.setAttribute("aria-controls", nav.id);
  nav.before(button);

  const show = (open) => {
    nav.classList.toggle("open", open);
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? "Close" : "Menu";
  };
  show(false);

  button.addEventListener("click", () => show(!nav.classList.contains("open")));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !nav.classList.contains("open")) return;
    show(false);
    button.focus();
  });
})();
