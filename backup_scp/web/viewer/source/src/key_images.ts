// The images that somebody has marked: a list that this browser keeps, by UIDs alone, until it is stored.

import type { KeyImage } from "./key_objects";
import type { Source, Study } from "./study";

const PLACE = "backup-scp key images";

export class KeyImages {
  #marked = new Set<string>(JSON.parse(localStorage.getItem(PLACE) ?? "[]"));

  has(source: Source): boolean {
    return this.#marked.has(nameOf(source));
  }

  toggle(source: Source): void {
    if (!this.#marked.delete(nameOf(source))) this.#marked.add(nameOf(source));
    this.#keep();
  }

  /** Takes the marks off. */
  remove(images: KeyImage[]): void {
    for (const { source } of images) this.#marked.delete(nameOf(source));
    this.#keep();
  }

  of(study: Study): KeyImage[] {
    return study.series.flatMap((series) =>
      series.sources.flatMap((source, index) => (this.has(source) ? [{ source, series, index }] : [])),
    );
  }

  #keep(): void {
    localStorage.setItem(PLACE, JSON.stringify([...this.#marked]));
  }
}

function nameOf(source: Source): string {
  return `${String(source.dataSet["00080018"]?.Value?.[0])} ${source.frame}`;
}
