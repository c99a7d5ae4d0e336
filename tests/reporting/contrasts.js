// The texts of a page whose contrast against what lies behind them is below arguments[0], by WCAG.
const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
const luminance = (colour) => {
  const [red, green, blue] = channels(colour).map((value) =>
    value <= 10 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const isTransparent = (colour) => channels(colour)[3] === 0;
const pale = [];
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const text = texts.currentNode, element = text.parentElement, range = document.createRange();
  range.selectNode(text);
  if (!text.data.trim() || !range.getBoundingClientRect().width) continue;
  const style = getComputedStyle(element);
  let behind = element;
  while (isTransparent(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
  const [high, low] = [element.ownerSVGElement ? style.fill : style.color, getComputedStyle(behind).backgroundColor]
    .map(luminance).sort((a, b) => b - a);
  const contrast = (high + 0.05) / (low + 0.05);
  if (contrast < arguments[0]) pale.push(`${contrast.toFixed(1)}: ${text.data.trim().slice(0, 60)}`);
}
return pale;
