// Where an image is on the screen, in its own pixels: 0, 0 is the left upper edge of the first one.
//
// cornerstone counts zoom and pan otherwise on the graphics card than on the processor.  What is the same on both is where a
// point of the image is, and a zoom relative to the one before: everything here is made of these.

import { type Types, getShouldUseCPURendering } from "@cornerstonejs/core";

import type { Turn } from "./paint";

export interface View {
  x: number;
  y: number;
  scale: number;
  turn: Turn;
}

export interface Axes {
  from: number[];
  alongRow: number[];
  alongColumn: number[];
}

type Movable = Pick<
  Types.IStackViewport,
  "canvasToWorld" | "getCamera" | "getViewPresentation" | "getZoom" | "setCamera" | "setZoom" | "worldToCanvas"
> & { setRotation(degrees: number): void };

export class Camera {
  spacing = { row: 1, column: 1 };
  #viewport: Movable;
  #screen: HTMLElement;

  constructor(viewport: Types.IStackViewport, screen: HTMLElement) {
    this.#viewport = viewport as unknown as Movable;
    this.#screen = screen;
  }

  /** On the graphics card the coordinates of a pixel are those of its middle. */
  get #half(): number {
    return getShouldUseCPURendering() ? 0 : 0.5;
  }

  #world(x: number, y: number): Types.Point3 {
    return [(x - this.#half) * this.spacing.column, (y - this.#half) * this.spacing.row, 0];
  }

  /** Returns where the left upper edge is on the screen, and a step by a column and by a row. */
  axes(): Axes {
    const at = (x: number, y: number) => this.#viewport.worldToCanvas(this.#world(x, y));
    const [from, right, below] = [at(0, 0), at(1, 0), at(0, 1)];
    return {
      from: [...from],
      alongRow: [right[0] - from[0], right[1] - from[1]],
      alongColumn: [below[0] - from[0], below[1] - from[1]],
    };
  }

  /** Returns how many pixels of the screen a pixel of the image has. */
  get scale(): number {
    const { alongRow } = this.axes();
    return Math.hypot(alongRow[0], alongRow[1]) * devicePixelRatio;
  }

  set scale(wanted: number) {
    this.#viewport.setZoom((this.#viewport.getZoom() * wanted) / this.scale);
  }

  get turn(): Turn {
    const { rotation, flipHorizontal, flipVertical } = this.#viewport.getViewPresentation();
    return {
      rotation: (Math.round(rotation ?? 0) + 360) % 360,
      flipHorizontal: flipHorizontal ?? false,
      flipVertical: flipVertical ?? false,
    };
  }

  set turn({ rotation, flipHorizontal, flipVertical }: Turn) {
    this.#viewport.setCamera({ flipHorizontal, flipVertical });
    this.#viewport.setRotation(((rotation % 360) + 360) % 360);
  }

  /** Moves a point of the image into the middle of the screen. */
  centre(x: number, y: number): void {
    const camera = this.#viewport.getCamera();
    const wanted = this.#world(x, y);
    const moved = (point: Types.Point3 | undefined) =>
      point?.map((part, axis) => part + wanted[axis] - camera.focalPoint![axis]) as Types.Point3;
    if (getShouldUseCPURendering()) this.#viewport.setCamera({ focalPoint: wanted });
    else {
      const { position, focalPoint } = camera;
      this.#viewport.setCamera({ position: onPlane(moved(position), position), focalPoint: onPlane(moved(focalPoint), focalPoint) });
    }
  }

  get view(): View {
    const { clientWidth, clientHeight } = this.#screen;
    const world = this.#viewport.canvasToWorld([clientWidth / 2, clientHeight / 2]);
    return {
      x: world[0] / this.spacing.column + this.#half,
      y: world[1] / this.spacing.row + this.#half,
      scale: this.scale,
      turn: this.turn,
    };
  }

  set view({ x, y, scale, turn }: View) {
    this.turn = turn;
    this.scale = scale;
    this.centre(x, y);
  }

  /** Shows a part of the image as large as it fits. */
  fit(left: number, top: number, right: number, bottom: number): void {
    const { alongRow, alongColumn } = this.axes();
    const extent = (axis: 0 | 1) => Math.abs(alongRow[axis]) * (right - left) + Math.abs(alongColumn[axis]) * (bottom - top);
    const { clientWidth, clientHeight } = this.#screen;
    this.scale *= Math.min(clientWidth / extent(0), clientHeight / extent(1));
    this.centre((left + right) / 2, (top + bottom) / 2);
  }

  /** Shows each pixel as one of the screen, exactly. */
  actualSize(rows: number, columns: number): void {
    this.scale = 1;
    this.centre(columns / 2, rows / 2);
    const { from, alongRow, alongColumn } = this.axes();
    const [x, y] = from.map((part) => part * devicePixelRatio).map((part) => part - Math.floor(part + 0.25));
    const along = (vector: number[]) => (x * vector[0] + y * vector[1]) * devicePixelRatio;
    this.centre(columns / 2 + along(alongRow), rows / 2 + along(alongColumn));
  }
}

/** Keeps a point's distance to the image. */
function onPlane(moved: Types.Point3, before: Types.Point3 | undefined): Types.Point3 {
  return [moved[0], moved[1], before![2]];
}
