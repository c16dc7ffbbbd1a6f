// Sets the theme before the page is drawn. The choice is kept in this browser.
"use strict";

(() => {
  const CHOICES = ["auto", "light", "dark"];
  const NAMES = { auto: "automatic", light: "light", dark: "dark" };

  const kept = () => {
    try {
      const choice = localStorage.getItem("netring-theme");
      return CHOICES.includes(choice) ? choice : "auto";
    } catch {
      return "auto"; // the browser keeps nothing
    }
  };

  const show = (choice) => {
    document.documentElement.dataset.theme = choice;
    const button = document.getElementById("theme");
    if (button !== null) {
      button.setAttribute("aria-label", `Theme: ${NAMES[choice]}`);
      button.title = `Theme: ${NAMES[choice]}`;
    }
  };

  let choice = kept();
  show(choice);
  document.addEventListener("DOMContentLoaded", () => {
    show(choice);
    document.getElementById("theme")?.addEventListener("click", () => {
      choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
      try {
        localStorage.setItem("netring-theme", choice);
      } catch {
        // it holds until the page is left
      }
      show(choice);
      document.dispatchEvent(new Event("themechange"));
    });
  });
})();
