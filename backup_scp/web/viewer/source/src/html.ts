// Makes elements; text is always set as text.

export function element<K extends keyof HTMLElementTagNameMap>(name: K, className = "", words = ""): HTMLElementTagNameMap[K] {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (words) made.textContent = words;
  return made;
}
