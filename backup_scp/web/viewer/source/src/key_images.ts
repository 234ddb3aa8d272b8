// Key images: a list that this browser keeps, by UIDs alone.

import type { Series, Source, Study } from "./study";

const PLACE = "backup-scp key images";

export class KeyImages {
  #marked = new Set<string>(JSON.parse(localStorage.getItem(PLACE) ?? "[]"));

  has(source: Source): boolean {
    return this.#marked.has(nameOf(source));
  }

  toggle(source: Source): void {
    if (!this.#marked.delete(nameOf(source))) this.#marked.add(nameOf(source));
    localStorage.setItem(PLACE, JSON.stringify([...this.#marked]));
  }

  of(study: Study): { source: Source; series: Series; index: number }[] {
    return study.series.flatMap((series) =>
      series.sources.flatMap((source, index) => (this.has(source) ? [{ source, series, index }] : [])),
    );
  }
}

function nameOf(source: Source): string {
  return `${String(source.dataSet["00080018"]?.Value?.[0])} ${source.frame}`;
}
