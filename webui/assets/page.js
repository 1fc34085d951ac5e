// What the page needs before and beside Gradio: the reader's language and theme, keys, dropped pictures, copying.
// Gradio puts it into <head> when its own script starts, before it paints the page.
(() => {
  "use strict";
  const root = document.documentElement;
  const languages = ["en", "th"];

  // What the reader chose, in the browser's storage; where that is off, it lasts until the page is closed.
  const choices = {};
  const memory = {
    get(name) {
      try { return localStorage.getItem(`diffuscope.${name}`); } catch { return choices[name] ?? null; }
    },
    set(name, value) {
      try {
        if (value === null) localStorage.removeItem(`diffuscope.${name}`);
        else localStorage.setItem(`diffuscope.${name}`, value);
      } catch { choices[name] = value; }
    },
  };

  // Theme: the operating system's until the reader chooses another. Gradio sets the class for the system's theme, when it
  // starts and when the system changes; whoever sets it, the reader's choice is put back.
  const systemTheme = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const applyTheme = () => {
    const dark = (memory.get("theme") ?? systemTheme()) === "dark";
    if (document.body.classList.contains("dark") !== dark) document.body.classList.toggle("dark", dark);
  };
  const toggleTheme = () => {
    const chosen = document.body.classList.contains("dark") ? "light" : "dark";
    memory.set("theme", chosen === systemTheme() ? null : chosen);
    applyTheme();
  };

  // Language: what was chosen here before, else what the owner set, else the browser's.
  const chosenLanguage = () => {
    const wanted = [memory.get("language"), window.diffuscopeLanguage, ...navigator.languages.map((tag) => tag.split("-")[0])];
    return wanted.find((tag) => languages.includes(tag)) ?? "en";
  };
  const speak = (language) => {
    root.lang = language;
    memory.set("language", language);
    nameSoon();
  };

  // What Gradio calls its buttons and fields is English in every language. It is put into the reader's own when the
  // browser has nothing else to do: first, and whenever Gradio has made or named something anew.
  const nameFields = () => {
    for (const [other, own] of Object.entries(window.diffuscopeGradio[root.lang])) {
      const [start, end] = other.split("{label}");
      for (const attribute of ["aria-label", "title"]) {
        for (const field of document.querySelectorAll(`[${attribute}${end === undefined ? "" : "^"}="${start}"]`)) {
          const label = field.getAttribute(attribute).slice(start.length);
          field.setAttribute(attribute, own.replace("{label}", () => label));
        }
      }
    }
  };
  const whenIdle = window.requestIdleCallback ?? ((work) => setTimeout(work, 50));
  let renamed = false, naming = false;
  const nameSoon = () => {
    renamed ||= root.lang !== "en";
    if (naming || !renamed) return;
    naming = true;
    setTimeout(() => whenIdle(() => { naming = false; nameFields(); }), 300);
  };

  const usable = (selector) => {
    const button = document.querySelector(selector);
    return button && !button.disabled && button.offsetParent !== null ? button : null;
  };
  const press = (selector, event) => {
    const button = usable(selector);
    if (!button) return;
    event.preventDefault();
    event.stopPropagation();
    button.click();
  };
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.repeat) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) press("#generate", event);
    else if (event.key === "Escape") press("#stop", event);
  }, true);

  // A PNG dropped anywhere goes where the button for it would have put it.
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    root.classList.add("dropping");
  }, true);
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) root.classList.remove("dropping");
  }, true);
  document.addEventListener("drop", (event) => {
    root.classList.remove("dropping");
    if (!carriesFiles(event) || event.dataTransfer.files.length === 0) return;
    const input = document.querySelector("#from-picture")?.parentElement.querySelector(":scope > input[type=file]");
    if (!input) return;
    event.preventDefault();
    event.stopPropagation();
    const picture = new DataTransfer();
    picture.items.add(event.dataTransfer.files[0]);
    input.files = picture.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }, true);

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    const words = button.textContent;
    button.textContent = button.dataset.copied;
    setTimeout(() => { button.textContent = words; }, 1500);
  });

  // What is shown to newcomers until they have used it, or do not want it: a class of the root hides it.
  const once = ["next"];
  const hideUsed = () => once.forEach((name) => root.classList.toggle(`used-${name}`, memory.get(`used.${name}`) !== null));
  hideUsed();
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-press], [data-once]");
    if (!button) return;
    if (button.dataset.once) memory.set(`used.${button.dataset.once}`, "yes");
    if (button.dataset.press) usable(button.dataset.press)?.click();
    hideUsed();
  });

  // How far the run is also stands in the tab's title.
  const showProgressInTitle = () => {
    const bar = document.querySelector("#status [role=progressbar]");
    document.title = bar ? `${bar.getAttribute("aria-valuenow")}% · Diffuscope` : "Diffuscope";
  };
  const afterChange = () => {
    showProgressInTitle();
    nameSoon();
  };
  const attend = () => {
    applyTheme();
    new MutationObserver(applyTheme).observe(document.body, { attributes: true, attributeFilter: ["class"] });
    new MutationObserver(afterChange).observe(document.body, { childList: true, subtree: true });
  };
  if (document.body) attend();
  else document.addEventListener("DOMContentLoaded", attend);

  root.lang = chosenLanguage();
  window.diffuscope = { chosenLanguage, speak, toggleTheme, ready: () => root.classList.add("ready") };
})();
