// One image on the screen: cornerstone's viewport, what is drawn over it, and the words in its corners.

import { Enums, type RenderingEngine, type Types, imageLoader } from "@cornerstonejs/core";

import { Camera, type View } from "./camera";
import type { Window } from "./display";
import { previewOf } from "./first_picture";
import { element } from "./html";
import { addLens } from "./lens";
import { imageId, loadedImage } from "./loader";
import { type Turn, paint } from "./paint";
import { windowEnds } from "./pixels";
import type { Loaded } from "./prepare";
import { STRINGS } from "./strings";
import { type Series, type Source, spacingOf } from "./study";

const { CAMERA_MODIFIED, IMAGE_RENDERED, VOI_MODIFIED } = Enums.Events;
const AHEAD = 3;

/** What is shown at a moment. */
export interface State {
  image: Loaded;
  range: { lower: number; upper: number };
  inverse: boolean;
  turn: Turn;
}

export class Pane {
  readonly root = element("section", "pane");
  series: Series | undefined;
  onChange = () => {};
  /** Returns the image that is likely to be asked for behind the last of this series. */
  afterSeries: () => string | undefined = () => undefined;
  #screen = element("div", "screen");
  #preview: HTMLElement = element("div", "preview");
  #overlay = element("canvas", "overlay");
  #corners = ["top left", "top right", "bottom left", "bottom right"].map((place) => element("p", `corner ${place}`));
  #viewport: Types.IStackViewport;
  #engine: RenderingEngine;
  #applied = "";
  #look = 0;
  #userWindow: [number, number] | undefined;
  #isInverted = false;
  #film: number | undefined;
  #camera: Camera;
  #isWhole = true;
  #isMoving = false;

  constructor(engine: RenderingEngine, parent: HTMLElement, id: string) {
    this.#engine = engine;
    this.root.tabIndex = 0;
    this.root.append(this.#screen, this.#preview, this.#overlay, ...this.#corners);
    parent.append(this.root);
    this.#screen.oncontextmenu = (event) => event.preventDefault();
    engine.enableElement({ viewportId: id, element: this.#screen as HTMLDivElement, type: Enums.ViewportType.STACK });
    this.#viewport = engine.getViewport(id) as Types.IStackViewport;
    this.#camera = new Camera(this.#viewport, this.#screen);
    addLens(this.#screen, this.#camera, () => this.#upright());
    this.#screen.addEventListener(IMAGE_RENDERED, () => this.#rendered());
    this.#screen.addEventListener(CAMERA_MODIFIED, () => {
      if (!this.#isMoving) this.#isWhole = false;
    });
    this.#screen.addEventListener(VOI_MODIFIED, ((event: CustomEvent) => this.#contrastChanged(event)) as EventListener);
  }

  get current(): Source | undefined {
    return this.series?.sources[this.index];
  }

  get index(): number {
    return this.#viewport.getTargetImageIdIndex();
  }

  get isPlaying(): boolean {
    return this.#film !== undefined;
  }

  get looks(): Loaded["looks"] {
    return this.#image?.looks ?? [];
  }

  get look(): number {
    return this.#look;
  }

  get #image(): Loaded | undefined {
    return loadedImage(this.#viewport.getCornerstoneImage()?.imageId);
  }

  /** Shows a series from one of its images on; a small picture from the node until the image is there. */
  async show(series: Series, index = 0, look = 0): Promise<void> {
    this.stop();
    const isOther = series !== this.series;
    this.series = series;
    this.#look = look;
    if (isOther) {
      this.#userWindow = undefined;
      this.#isInverted = false;
      this.root.classList.remove("painted");
      if (this.#preview.hidden) this.showFirst(previewOf(series.sources[index]));
    }
    const before = isOther ? undefined : this.#camera.view;
    await imageLoader.loadAndCacheImage(imageId(series.sources[index], look)); // says why when it cannot be shown
    this.#isMoving = true;
    await this.#viewport.setStack(series.sources.map((source) => imageId(source, look)), index);
    this.#isMoving = false;
    this.#camera.spacing = spacingOf(series.sources[index].dataSet, series.sources[index].frame);
    this.#applied = "";
    if (this.#image?.look.presentation) this.#present();
    else if (before) this.#move(() => (this.#camera.view = before));
    else this.fit();
    this.#apply();
    this.#viewport.render();
    this.onChange();
  }

  /** Moves the image by ours, not the user's hand. */
  #move(how: () => void): void {
    this.#isMoving = true;
    how();
    this.#isMoving = false;
  }

  /** Shows this until the image is there. */
  showFirst(preview: HTMLElement): void {
    this.#preview.replaceWith(preview);
    this.#preview = preview;
  }

  /** Turns and enlarges the image as its Presentation State says. */
  #present(): void {
    const presentation = this.#image?.look.presentation;
    if (!presentation) return;
    const { rotation, flip, area } = presentation;
    this.turn({ rotation, flipHorizontal: flip, flipVertical: false });
    this.fit();
    if (area) this.#move(() => this.#camera.fit(area.left, area.top, area.right, area.bottom));
    this.#isWhole = !area;
  }

  #rendered(): void {
    const id = this.#viewport.getCornerstoneImage()?.imageId ?? "";
    if (!id) return;
    if (id !== this.#applied && this.#apply()) {
      this.#viewport.render();
      return;
    }
    this.#drawOverlays();
    this.#write();
    this.#preview.hidden = true;
    this.root.classList.add("painted");
    this.root.dataset.image = id;
    this.#prefetch();
  }

  /** Gives an image its own contrast, or the one that the user has chosen; tells whether that changes the picture. */
  #apply(): boolean {
    const image = this.#image;
    if (!image) return false;
    const { shown } = image;
    const wanted = shown.isBaked || !this.#userWindow ? [shown.lower, shown.upper] : fromUnits(image, this.#userWindow);
    const { voiRange, invert } = this.#viewport.getProperties();
    const isInverse = shown.inverse !== this.#isInverted;
    const isSame = voiRange?.lower === wanted[0] && voiRange?.upper === wanted[1] && (invert ?? false) === isInverse;
    this.#applied = "";
    if (!isSame) this.#viewport.setProperties({ voiRange: { lower: wanted[0], upper: wanted[1] }, invert: isInverse });
    this.#applied = this.#viewport.getCornerstoneImage()!.imageId;
    return !isSame;
  }

  #contrastChanged(event: CustomEvent): void {
    const image = this.#image;
    const id = this.#viewport.getCornerstoneImage()?.imageId;
    if (!image || id !== this.#applied || !event.detail?.range || image.shown.isBaked) return;
    const { lower, upper } = event.detail.range;
    if (lower === image.shown.lower && upper === image.shown.upper) return;
    this.#userWindow = [lower, upper].map((end) => end * image.shown.slope + image.shown.intercept) as [number, number];
  }

  async setLook(look: number): Promise<void> {
    const chosen = this.looks[look];
    if (!this.series || !chosen) return;
    this.#userWindow = undefined;
    await this.show(this.series, this.index, look);
  }

  setWindow(window: Pick<Window, "center" | "width" | "shape">): void {
    this.#userWindow = windowEnds(window);
    this.#apply();
    this.#viewport.render();
  }

  /** Goes to another image; at the ends it stays. */
  async go(index: number): Promise<void> {
    const last = (this.series?.sources.length ?? 1) - 1;
    const wanted = Math.min(last, Math.max(0, index));
    const source = this.series?.sources[wanted];
    if (source && wanted !== this.index) {
      await imageLoader.loadAndCacheImage(imageId(source, this.#look));
      await this.#viewport.setImageIdIndex(wanted);
    }
    this.onChange();
  }

  play(): void {
    const { current } = this;
    const count = this.series?.sources.length ?? 0;
    if (!current || count < 2) return;
    const value = (tag: string) => Number(current.dataSet[tag]?.Value?.[0]) || 0;
    const perSecond = value("00082144") || value("00180040") || (value("00181063") && 1000 / value("00181063")) || 10;
    const step = () => this.go((this.index + 1) % count).catch(() => this.stop());
    this.#film = window.setInterval(step, 1000 / Math.min(60, perSecond));
    this.onChange();
  }

  stop(): void {
    window.clearInterval(this.#film);
    this.#film = undefined;
    this.onChange();
  }

  invert(): void {
    this.#isInverted = !this.#isInverted;
    this.#apply();
    this.#viewport.render();
  }

  get state(): State | undefined {
    const image = this.#image;
    const { voiRange, invert } = this.#viewport.getProperties();
    if (!image || !voiRange) return undefined;
    return { image, range: voiRange, inverse: invert ?? false, turn: this.#camera.turn };
  }

  turn(change: Partial<Turn>): void {
    this.#move(() => (this.#camera.turn = { ...this.#camera.turn, ...change }));
    this.#viewport.render();
  }

  rotate(degrees: number): void {
    this.turn({ rotation: this.#camera.turn.rotation + degrees });
    this.fit();
  }

  /** Swaps left and right, or top and bottom, as the screen shows them. */
  flip(axis: "flipHorizontal" | "flipVertical"): void {
    const { turn } = this.#camera;
    const other = axis === "flipHorizontal" ? "flipVertical" : "flipHorizontal";
    const own = turn.rotation % 180 === 0 ? axis : other;
    this.turn({ [own]: !turn[own] });
  }

  /** Shows the whole image. */
  fit(): void {
    const image = this.#image;
    if (!image) return;
    const { rows, columns } = image.display;
    this.#move(() => this.#camera.fit(0, 0, columns, rows));
    this.#isWhole = true;
    this.#viewport.render();
  }

  /** Shows one pixel of the image as one of the screen. */
  actualSize(): void {
    const image = this.#image;
    if (!image) return;
    this.#move(() => this.#camera.actualSize(image.display.rows, image.display.columns));
    this.#isWhole = false;
    this.#viewport.render();
  }

  reset(): void {
    this.#userWindow = undefined;
    this.#isInverted = false;
    this.turn({ rotation: 0, flipHorizontal: false, flipVertical: false });
    this.fit();
    this.#present();
    this.#apply();
    this.#viewport.render();
  }

  /** Returns what to give to ``resized`` afterwards. */
  get view(): View | undefined {
    return this.#image && this.#camera.view;
  }

  resized(before: View | undefined): void {
    if (!before || !this.#image) return;
    this.#move(() => (this.#camera.view = before));
    if (this.#isWhole) this.fit();
    this.#viewport.render();
  }

  #upright(): HTMLCanvasElement | undefined {
    const { state } = this;
    const turn = { rotation: 0, flipHorizontal: false, flipVertical: false };
    return state && paint(state.image, { ...state.range, inverse: state.inverse }, turn);
  }

  /** Paints the image in its own size, as it is shown. */
  picture(): HTMLCanvasElement | undefined {
    const { state } = this;
    return state && paint(state.image, { ...state.range, inverse: state.inverse }, state.turn);
  }

  #drawOverlays(): void {
    const overlay = this.#overlay as HTMLCanvasElement;
    const image = this.#image;
    const { width, height } = this.#viewport.canvas;
    if (overlay.width !== width || overlay.height !== height) [overlay.width, overlay.height] = [width, height];
    const context = overlay.getContext("2d")!;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!image?.overlays.length) return;
    const { from, alongRow, alongColumn } = this.#camera.axes();
    const matrix = [...alongRow, ...alongColumn, ...from].map((part) => part * devicePixelRatio);
    context.setTransform(matrix[0], matrix[1], matrix[2], matrix[3], matrix[4], matrix[5]);
    context.imageSmoothingEnabled = this.#camera.scale < 0.999;
    for (const each of image.overlays) each.draw(context, image.display.rows, image.display.columns);
  }

  #write(): void {
    const { state, current, series } = this;
    if (!state || !current || !series) return;
    const { study, frame, frames, dataSet } = current;
    const { rotation, flipHorizontal, flipVertical } = state.turn;
    const spacing = spacingOf(dataSet, frame).kind;
    const [lower, upper] = [state.range.lower, state.range.upper].map(
      (end) => end * state.image.shown.slope + state.image.shown.intercept,
    );
    const lines = [
      [study.patient, study.patientId, study.birthDate],
      [study.date, study.description, STRINGS.seriesOf(series.number, series.modality, series.description)],
      [
        STRINGS.imageOf(this.index + 1, series.sources.length),
        frames > 1 && frames !== series.sources.length && STRINGS.frameOf(frame, frames),
        spacing === "detector" ? STRINGS.spacingDetector : spacing === "none" && STRINGS.spacingNone,
      ],
      [
        rotation && STRINGS.turned(rotation),
        (flipHorizontal || flipVertical) && STRINGS.mirrored,
        this.#isInverted && STRINGS.inverted,
        state.image.shown.isBaked
          ? state.image.display.samples === 1 && !state.image.display.palette && STRINGS.contrastBaked
          : STRINGS.window((lower + upper + 1) / 2, Math.abs(upper - lower) + 1),
        STRINGS.zoom(this.#camera.scale),
      ],
    ];
    lines.forEach((words, at) => {
      this.#corners[at].textContent = words.filter(Boolean).join("\n");
    });
  }

  /** Loads what is likely to be asked for next. */
  #prefetch(): void {
    const { series, index } = this;
    if (!series) return;
    const near = [index - 1, ...Array.from({ length: AHEAD }, (_, step) => index + 1 + step)];
    const ids = near.flatMap((at) => (series.sources[at] ? [imageId(series.sources[at], this.#look)] : []));
    const after = index + AHEAD >= series.sources.length ? this.afterSeries() : undefined;
    for (const id of after ? [...ids, after] : ids) imageLoader.loadAndCacheImage(id).catch(() => {});
  }

  destroy(): void {
    this.stop();
    this.#engine.disableElement(this.#viewport.id);
    this.root.remove();
  }
}

function fromUnits({ shown }: Loaded, ends: [number, number]): number[] {
  return ends.map((end) => (end - shown.intercept) / shown.slope).sort((one, other) => one - other);
}
