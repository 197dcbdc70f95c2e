// Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
// The texts in view whose contrast with what is behind them is below 4.5, each with its contrast.
() => {
  const channels = colour => colour.match(/[\d.]+/g).map(Number);
  const over = ([r, g, b, a = 1], below) => [r, g, b].map((value, i) => a * value + (1 - a) * below[i]);
  const luminance = colour => {
    const [r, g, b] = colour.map(v => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    if (!element) return [255, 255, 255];
    const colour = channels(getComputedStyle(element).backgroundColor);
    return colour[3] === 0 ? behind(element.parentElement) : over(colour, behind(element.parentElement));
  };
  const opacity = element => (element ? Number(getComputedStyle(element).opacity) * opacity(element.parentElement) : 1);
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data.trim()).join("");
    if (!text || !element.checkVisibility() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const style = getComputedStyle(element), back = behind(element), svg = element.closest("svg");
    const colour = channels(svg ? style.fill : style.color);
    const [r, g, b, a = 1] = colour;
    const shown = over([r, g, b, a * opacity(element)], back);
    const [light, dark] = [luminance(shown), luminance(back)].sort((x, y) => y - x);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < 4.5) low.push(`${text.slice(0, 30)}: ${contrast.toFixed(1)}`);
  }
  return low;
}
