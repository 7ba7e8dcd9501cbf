// What pages do beyond links and forms: local times, theme, copying, the search box. Nothing here is needed to read.
"use strict";
(() => {
  const root = document.documentElement;

  // Times: in the reader's zone, in a short form.
  const short = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hour12: false });
  const dated = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hour12: false });
  const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
  const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
  function localTimes(within) {
    const year = new Date().getFullYear();
    for (const element of within.querySelectorAll("time[datetime]:not([data-local])")) {
      const moment = new Date(element.getAttribute("datetime"));
      if (Number.isNaN(moment.getTime())) continue;
      const form = "day" in element.dataset ? day : moment.getFullYear() === year ? short : dated;
      element.textContent = form.format(moment);
      element.dataset.local = "";
    }
  }
  document.addEventListener("pointerover", (event) => {
    const element = event.target.closest("time[data-local='']");
    if (!element) return;
    element.title = `${whole.format(new Date(element.getAttribute("datetime")))} (${element.title})`;
    element.dataset.local = "told";
  });

  // Copying a command.
  function copyButtons(within) {
    if (!navigator.clipboard) return;
    for (const button of within.querySelectorAll("button[data-copy][hidden]")) button.hidden = false;
  }
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    const label = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1200);
  });

  // Theme: what the system says, until somebody chooses. Charts listen to "headway:theme".
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const toggle = document.getElementById("theme");
  function labelled() {
    if (!toggle) return;
    toggle.textContent = isDark() ? "Light" : "Dark";
    toggle.setAttribute("aria-label", isDark() ? "Use the light theme" : "Use the dark theme");
    toggle.hidden = false;
  }
  function changed() {
    labelled();
    document.dispatchEvent(new CustomEvent("headway:theme", { detail: { dark: isDark() } }));
  }
  if (toggle) toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("headway-theme", root.dataset.theme); } catch (error) { /* for this page only */ }
    changed();
  });
  system.addEventListener("change", changed);
  labelled();

  // Search: Ctrl-K or / goes there, arrows move through what was found, Escape closes it.
  const find = document.getElementById("find");
  const found = document.getElementById("found");
  const links = () => [...found.querySelectorAll("a")];
  const close = () => { found.replaceChildren(); };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if ((event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey)) || (event.key === "/" && !typing)) {
      event.preventDefault();
      find.focus();
      find.select();
    } else if (event.key === "Escape" && find.form.contains(event.target)) {
      close();
      find.value = "";
      find.blur();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && find.form.contains(event.target)) {
      const all = links();
      if (!all.length) return;
      event.preventDefault();
      const at = all.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
      if (at < 0) find.focus();
      else all[Math.min(at, all.length - 1)].focus();
    } else if (event.key === "Enter" && event.target === find && links().length) {
      event.preventDefault();
      links()[0].click();
    }
  });
  document.addEventListener("click", (event) => { if (!find.form.contains(event.target)) close(); });

  // A form is sent once; what it starts may take a while.
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post") return;
    for (const button of event.target.querySelectorAll("button")) {
      setTimeout(() => { button.disabled = true; }, 0);
    }
    event.target.setAttribute("aria-busy", "true");
  });
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[aria-busy]")) {
      form.removeAttribute("aria-busy");
      for (const button of form.querySelectorAll("button")) button.disabled = false;
    }
  });

  // On a phone the navigation is a strip: the current page is to be in sight.
  const current = document.querySelector("nav.pages [aria-current]");
  if (current) current.closest("nav").scrollLeft = Math.max(0, current.offsetLeft - 80);

  function enhance(within) { localTimes(within); copyButtons(within); }
  enhance(document);
  document.addEventListener("htmx:after:swap", () => enhance(document));
})();
