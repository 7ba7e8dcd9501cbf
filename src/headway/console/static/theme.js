// Runs before the first paint, so that a chosen theme does not flash.
(function () {
  var chosen = null;
  try { chosen = localStorage.getItem("headway-theme"); } catch (error) { /* storage is off */ }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
