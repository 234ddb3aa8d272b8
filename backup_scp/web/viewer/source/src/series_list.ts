// The list beside the images: series, other documents, key images.

import { seriesUrl } from "./dicomweb";
import { element } from "./html";
import type { KeyImages } from "./key_images";
import { type KeyImage, selectionsOf } from "./key_objects";
import { STRINGS } from "./strings";
import type { Series, Study } from "./study";

/** Shows a series, from one of its images on. */
export type Open = (series: Series, index?: number) => void;

export function seriesList(studies: Study[], keyImages: KeyImages, open: Open): HTMLElement[] {
  return [
    ...studies.flatMap((study) => [
      element("h2", "", [study.date, study.description].filter(Boolean).join(" ")),
      ...study.series.map((series) => seriesButton(study, series, open)),
    ]),
    ...otherDocuments(studies),
    ...keyImageList(studies, keyImages, open),
  ];
}

function seriesButton(study: Study, series: Series, open: Open): HTMLButtonElement {
  const address = `${seriesUrl(study.uid, series.uid)}/thumbnail?viewport=96,96`;
  const button = pictureButton(series, address, String(series.sources.length));
  button.dataset.series = series.uid;
  button.onclick = () => open(series);
  return button;
}

function keyButton({ source, series, index }: KeyImage, open: Open): HTMLButtonElement {
  const address = `${source.url}/frames/${source.frame}/thumbnail?viewport=96,96`;
  const button = pictureButton(series, address, STRINGS.imageOf(index + 1, series.sources.length));
  button.onclick = () => open(series, index);
  return button;
}

function pictureButton(series: Series, address: string, number: string): HTMLButtonElement {
  const button = element("button");
  button.type = "button";
  const picture = element("img");
  picture.loading = "lazy";
  picture.alt = "";
  picture.src = address;
  const words = STRINGS.seriesOf(series.number, series.modality, series.description);
  button.append(picture, element("span", "", words), element("small", "", number));
  return button;
}

function otherDocuments(studies: Study[]): HTMLElement[] {
  const others = studies.flatMap((study) => study.others);
  if (!others.length) return [];
  const links = others.map(({ title, url }) => {
    const link = element("a", "", title || STRINGS.others);
    link.href = `${url}/rendered`;
    link.target = "_blank";
    return link;
  });
  return [element("h2", "", STRINGS.others), ...links];
}

/** Lists what is stored, by the reason it was selected for, then what is only marked. */
function keyImageList(studies: Study[], keyImages: KeyImages, open: Open): HTMLElement[] {
  const listed = (title: string, images: KeyImage[]) => [element("h3", "", title), ...images.map((each) => keyButton(each, open))];
  const stored = studies.flatMap(selectionsOf).flatMap(({ title, images }) => listed(title, images));
  const marked = studies.flatMap((study) => keyImages.of(study));
  return [
    element("h2", "", STRINGS.keyImages),
    ...stored,
    ...(marked.length ? listed(STRINGS.keyImagesMarked, marked) : []),
    ...(stored.length || marked.length ? [] : [element("p", "", STRINGS.keyImagesNone)]),
  ];
}
