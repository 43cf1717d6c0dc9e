// Tells how the Moon looks tonight, from the mean length of a month. Good to half a day.
(() => {
  "use strict";
  const place = document.querySelector(".moon-now");
  if (!place) return;

  const MONTH = 29.530588853;
  const NEW_MOON = Date.UTC(2000, 0, 6, 18, 14);
  const NAMES = ["new", "a young crescent", "at first quarter", "waxing gibbous", "full", "waning gibbous", "at last quarter", "an old crescent"];

  const days = (Date.now() - NEW_MOON) / 86400000;
  const age = ((days % MONTH) + MONTH) % MONTH;
  const lit = (1 - Math.cos((2 * Math.PI * age) / MONTH)) / 2;
  const name = NAMES[Math.floor((age / MONTH) * 8 + 0.5) % 8];
  const full = (MONTH * 1.5 - age) % MONTH;

  place.textContent =
    `Tonight the Moon is ${name}, ${Math.round(lit * 100)} % lit, ${age.toFixed(1)} days old. ` +
    `It is full again in ${Math.round(full)} days.`;
})();
