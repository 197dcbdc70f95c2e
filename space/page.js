// Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
// One audio element plays for all cards, so that starting one stops the others. And what the keyboard and the pointer
// do on the map.
function listen() {
  const audio = document.body.appendChild(document.createElement("audio"));
  let player = null; // the card's part that plays now
  let track, begin; // what that part was about when it began: new answers may come into the same elements
  let isConverted = false; // whether the browser cannot play the file itself
  let offset = 0; // of the converted passage within the track, in seconds

  const clock = time => {
    const parts = [time / 3600, (time / 60) % 60, time % 60].map(part => String(Math.floor(part)));
    return (time < 3600 ? parts.slice(1) : parts).map((part, i) => (i ? part.padStart(2, "0") : part)).join(":");
  };
  const duration = () => Number(player.dataset.duration);
  const position = () => Math.min(offset + audio.currentTime, duration());

  function load(time) {
    offset = isConverted ? time : 0;
    audio.src = isConverted ? `passages/${track}/${Math.round(1000 * time)}.mp3` : `tracks/${track}`;
    audio.currentTime = time - offset; // also where nothing is loaded yet: it begins there then
    start();
  }

  function start() {
    audio.play().catch(() => show()); // what cannot be played fires an error, which is handled below
  }

  function play(other, time) {
    if (other !== player) {
      release();
      player = other;
      ({ track, start: begin } = player.dataset);
      isConverted = false;
      load(time);
    } else if (isConverted) {
      load(time);
    } else {
      audio.currentTime = time;
      start();
    }
  }

  function toggle(other) {
    if (other !== player) play(other, Number(other.dataset.start));
    else if (audio.paused) start();
    else audio.pause();
  }

  function release() {
    audio.pause();
    if (player) player.classList.remove("playing", "open");
    player = null;
  }

  function show() {
    if (!player) return;
    const now = position(), strip = player.querySelector(".strip");
    const button = player.querySelector(".play"), isPlaying = !audio.paused;
    player.classList.add("open");
    player.classList.toggle("playing", isPlaying);
    button.setAttribute("aria-label", button.getAttribute("aria-label").replace(/^\S+/, isPlaying ? "Pause" : "Play"));
    strip.setAttribute("aria-valuenow", Math.floor(now));
    strip.setAttribute("aria-valuetext", `${clock(now)} of ${clock(duration())}`);
    player.querySelector(".head").style.left = `${(100 * now) / duration()}%`;
    player.querySelector(".now").textContent = clock(now);
  }

  for (const event of ["play", "pause", "timeupdate", "seeked"]) audio.addEventListener(event, show);
  audio.addEventListener("error", () => {
    if (!player) return;
    if (isConverted) {
      player.querySelector(".now").textContent = "This file cannot be played.";
      return release();
    }
    const time = audio.currentTime;
    isConverted = true;
    load(time || Number(player.dataset.start));
  });
  audio.addEventListener("ended", () => {
    if (player && isConverted && position() < duration() - 1) load(position());
  });

  document.addEventListener("click", event => {
    const other = event.target.closest(".player");
    if (!other) return;
    const strip = event.target.closest(".strip");
    if (event.target.closest(".play")) toggle(other);
    else if (strip) {
      const box = strip.getBoundingClientRect();
      const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
      play(other, share * Number(other.dataset.duration));
    }
  });

  document.addEventListener("click", event => {
    const button = event.target.closest("#more-options");
    if (button) button.setAttribute("aria-expanded", button.getAttribute("aria-expanded") === "false");
  });

  document.addEventListener("keydown", event => {
    const { target, key } = event;
    if (key === "/" && !target.closest("input, textarea, [contenteditable]")) {
      event.preventDefault();
      document.querySelector("#text textarea, #text input").focus();
    } else if (target.closest(".strip")) onStrip(event, target.closest(".player"));
    else if (target.closest("#map [data-act]")) onMap(event, target.closest("[data-act]"));
  });

  function onStrip(event, other) {
    const length = Number(other.dataset.duration);
    const now = other === player ? position() : Number(other.dataset.start);
    const times = { ArrowLeft: now - 5, ArrowRight: now + 5, Home: 0, End: length - 5 };
    if (event.key === " " || event.key === "Enter") toggle(other);
    else if (event.key in times) play(other, Math.min(Math.max(times[event.key], 0), length));
    else return;
    event.preventDefault();
  }

  // Arrows go to the nearest dot on that side. Only one dot is a stop of the tab key.
  function onMap(event, dot) {
    const side = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!side) return;
    event.preventDefault();
    const from = dot.dataset;
    let best = null, least = Infinity;
    for (const other of document.querySelectorAll("#map [data-act]")) {
      const x = other.dataset.x - from.x, y = other.dataset.y - from.y;
      const ahead = x * side[0] + y * side[1], aside = Math.abs(x * side[1] + y * side[0]);
      if (ahead > 0 && ahead + 2 * aside < least) [best, least] = [other, ahead + 2 * aside];
    }
    if (!best) return;
    dot.tabIndex = -1;
    best.tabIndex = 0;
    best.focus();
  }

  // The name of a dot, beside it.
  const tip = document.body.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;
  function point(event) {
    const dot = event.target.closest?.("#map [data-act]");
    tip.hidden = !dot;
    if (!dot) return;
    tip.textContent = dot.getAttribute("aria-label");
    const box = dot.querySelector(".dot").getBoundingClientRect(), half = tip.offsetWidth / 2 + 8;
    tip.style.left = `${Math.min(Math.max(box.left + box.width / 2, half), innerWidth - half)}px`;
    tip.style.top = `${box.top - 6}px`;
  }
  for (const event of ["pointerover", "focusin"]) document.addEventListener(event, point);
  for (const event of ["focusout", "scroll"]) addEventListener(event, () => (tip.hidden = true), { passive: true });

  // Waveforms come one after the other, so that players and answers find a free connection. They are rules of their own,
  // as new answers come into the elements of the old ones.
  const waves = document.head.appendChild(document.createElement("style")), asked = new Set();
  let isDrawing = false;
  async function draw() {
    if (isDrawing) return;
    isDrawing = true;
    const isNext = wave => !asked.has(wave.dataset.track) && wave.checkVisibility();
    for (let wave; (wave = [...document.querySelectorAll(".wave")].find(isNext)); ) {
      const track = wave.dataset.track;
      asked.add(track);
      const answer = await fetch(`waveforms/${track}.svg`, { priority: "low" }).catch(() => null);
      if (answer?.status !== 200) continue;
      const image = `mask-image: url(${URL.createObjectURL(await answer.blob())})`;
      waves.sheet.insertRule(`.wave[data-track="${track}"] { ${image}; visibility: visible !important; }`);
    }
    isDrawing = false;
  }
  addEventListener("toggle", draw, { capture: true }); // the weak answers

  // A card that is gone does not go on playing, unless the same track is among the new ones; a picked track begins.
  new MutationObserver(() => {
    if (player && !(player.isConnected && player.dataset.track === track && player.dataset.start === begin)) {
      const same = document.querySelector(`.player[data-track="${track}"][data-start="${begin}"]`);
      if (same) {
        player = same;
        show();
      } else release();
    }
    const picked = document.querySelector(".player[data-autoplay]");
    if (picked) {
      picked.removeAttribute("data-autoplay");
      play(picked, Number(picked.dataset.start));
    }
    draw();
  }).observe(document.body, {
    childList: true,
    subtree: true,
    attributeFilter: ["data-track", "data-start", "data-autoplay"],
  });
}

if (document.readyState === "loading") addEventListener("DOMContentLoaded", listen);
else listen();
