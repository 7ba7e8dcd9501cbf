// Long series: the picture made on the server is replaced by one that can be pointed at and zoomed (drag; double click
// zooms out). Colours come from the style sheet, and are taken again when the theme changes: a canvas has none itself.
"use strict";
(() => {
  const HEIGHT = 240;
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const drawn = new Map();

  const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
  const hour = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", hour12: false, timeZone: "UTC" });
  const whole = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hour12: false, timeZone: "UTC" });

  // Ticks of the time axis: days, or hours where the axis shows less than three days.
  function times(chart, ticks) {
    const short = ticks.length > 1 && ticks[ticks.length - 1] - ticks[0] < 3 * 86400;
    return ticks.map((at) => (short ? hour : day).format(new Date(at * 1000)));
  }

  function text(share) {
    const plain = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
    return (value) => (value == null ? "–" : share ? `${plain.format(value * 100)} %` : plain.format(value));
  }

  function options(box, data) {
    const written = text(data.share);
    const axis = { stroke: color("--chart-axis"), grid: { stroke: color("--chart-grid"), width: 1 }, ticks: { stroke: color("--chart-grid"), width: 1 }, font: `11px ${color("--sans")}` };
    return {
      width: Math.max(box.clientWidth, 200),
      height: HEIGHT,
      cursor: { y: false, points: { size: 7 } },
      scales: { y: { range: (chart, low, high) => [Math.min(low, 0), high > 0 ? high * 1.08 : 1] } },
      series: [
        { label: "Window until", value: (chart, at) => (at == null ? "–" : whole.format(new Date(at * 1000))) },
        { label: "Measured", stroke: color("--chart-1"), width: 1.6, points: { show: data.at.length < 60, size: 4, fill: color("--chart-1") }, value: (chart, value) => written(value) },
        { label: "Threshold", stroke: color("--chart-reference"), dash: [4, 3], width: 1.2, points: { show: false }, value: (chart, value) => written(value) },
        { label: "Alarm", stroke: color("--bad"), width: 0, paths: () => null, points: { show: true, size: 9, fill: color("--bad"), stroke: color("--surface") }, value: (chart, value) => written(value) },
      ],
      axes: [{ ...axis, values: times }, { ...axis, size: 56, values: (chart, ticks) => ticks.map(written) }],
    };
  }

  function draw(box) {
    const data = JSON.parse(document.getElementById(box.dataset.series).textContent);
    if (data.at.length < 3) return;
    const before = drawn.get(box);
    if (before) before.destroy();
    box.replaceChildren();
    drawn.set(box, new uPlot(options(box, data), [data.at, data.value, data.threshold, data.alarm], box));
  }

  const boxes = [...document.querySelectorAll("[data-series]")];
  for (const box of boxes) draw(box);
  document.addEventListener("headway:theme", () => boxes.forEach(draw));
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    for (const [box, chart] of drawn) chart.setSize({ width: Math.max(box.clientWidth, 200), height: HEIGHT });
  });
})();
