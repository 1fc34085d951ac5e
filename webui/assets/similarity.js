// The similarity page: pictures dropped or pasted anywhere on it, Ctrl+Enter, and downloads.
// It listens before page.js and keeps from it what belongs here.
(() => {
  "use strict";
  const shown = (selector) => {
    const found = document.querySelector(selector);
    return found && found.offsetParent !== null ? found : null;
  };
  const give = (files) => {
    const input = shown("#score-upload")?.parentElement.querySelector(":scope > input[type=file]");
    if (!input) return false;
    const chosen = new DataTransfer();
    for (const file of files) chosen.items.add(file);
    input.files = chosen.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    return true;
  };
  document.addEventListener("drop", (event) => {
    if (!shown("#score-upload") || !event.dataTransfer?.files.length) return;
    document.documentElement.classList.remove("dropping");
    event.preventDefault();
    event.stopImmediatePropagation();
    give(event.dataTransfer.files);
  }, true);
  document.addEventListener("paste", (event) => {
    if (!event.clipboardData?.files.length || !shown("#score-upload")) return;
    event.preventDefault();
    give(event.clipboardData.files);
  }, true);
  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.repeat) return;
    const wanted = event.key === "Enter" && (event.ctrlKey || event.metaKey) ? "#score-run" : event.key === "Escape" ? "#score-stop" : null;
    const button = wanted && shown(wanted);
    if (!button) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    button.click();
  }, true);
  // What the browser cannot show may still be no picture at all: scoring says which.
  document.addEventListener("error", (event) => {
    if (event.target instanceof HTMLImageElement) event.target.closest(".tray li")?.classList.add("unreadable");
  }, true);
  window.diffuscopeShow = (selector) => {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    shown(selector)?.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
  };
  window.diffuscopeSave = (file) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([file.text], { type: file.type }));
    link.download = file.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };
})();
