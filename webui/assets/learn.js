// The tour's questions: an answer is shown when one has been chosen, and the quiz is counted and kept in this browser.
(() => {
  "use strict";
  const key = "diffuscope.quiz";
  const kept = () => {
    try { return JSON.parse(localStorage.getItem(key)) ?? {}; } catch { return {}; }
  };
  const keep = (scores) => {
    try { localStorage.setItem(key, JSON.stringify(scores)); } catch { /* storage is off: it is not kept */ }
  };

  document.addEventListener("change", (event) => {
    const fieldset = event.target.closest?.(".predict fieldset");
    if (!fieldset) return;
    const reveal = fieldset.querySelector(".reveal");
    const right = event.target.value === fieldset.dataset.answer;
    reveal.querySelector(".verdict").textContent = right ? `✓ ${reveal.dataset.right}` : `✗ ${reveal.dataset.wrong}`;
    reveal.classList.toggle("missed", !right);
    reveal.hidden = false;
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-count]");
    if (!button) return;
    const when = button.dataset.count;
    const questions = [...button.closest(".quiz").querySelectorAll("fieldset")];
    const answers = questions.map((each) => each.querySelector("input:checked")?.value === each.dataset.answer);
    const right = answers.filter(Boolean).length;
    const scores = { ...kept(), [when]: right };
    keep(scores);
    let words = button.dataset.score.replace("{right}", right).replace("{count}", questions.length);
    if (when === "after") {
      questions.forEach((each, number) => {
        const why = each.querySelector(".why");
        why.hidden = false;
        why.classList.toggle("missed", !answers[number]);
      });
      if (scores.before !== undefined) words += ` ${button.dataset.was.replace("{before}", scores.before)}`;
    }
    button.parentElement.querySelector(".quiz-score").textContent = words;
  });
})();
