// A picture as pixels: what a frame has of boxes is written into memory at once, for they may be tens of thousands.

/** Up to how many pixels a column at a time is quicker than to fill each row. */
const NARROW = 4;

export class Raster {
  private image: ImageData | null = null;
  private pixels = new Uint32Array(0);
  width = 0;
  height = 0;

  resize(width: number, height: number): void {
    if (width === this.width && height === this.height) return;
    this.width = width;
    this.height = height;
    this.image = new ImageData(Math.max(width, 1), Math.max(height, 1));
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  clear(colour: number): void {
    this.pixels.fill(colour);
  }

  /** A box from (x0, y0) up to (x1, y1), cut to the picture and to rows from `top` on; whole pixels. */
  box(x0: number, y0: number, x1: number, y1: number, colour: number, top = 0): void {
    const left = Math.max(x0, 0);
    const right = Math.min(x1, this.width);
    if (right <= left) return;
    const bottom = Math.min(y1, this.height);
    if (right - left <= NARROW) {
      for (let x = left; x < right; x++) this.column(x, Math.max(y0, top), bottom, colour);
      return;
    }
    for (let y = Math.max(y0, top); y < bottom; y++)
      this.pixels.fill(colour, y * this.width + left, y * this.width + right);
  }

  /** A column of pixels from y0 up to y1, which both lie in the picture. */
  column(x: number, y0: number, y1: number, colour: number): void {
    const { pixels, width } = this;
    const end = y1 * width;
    for (let at = y0 * width + x; at < end; at += width) pixels[at] = colour;
  }

  /** The row of pixels at y0 also in the rows below, up to y1. */
  repeat(x0: number, x1: number, y0: number, y1: number): void {
    const [left, right] = [Math.max(x0, 0), Math.min(x1, this.width)];
    const first = y0 * this.width;
    for (let y = y0 + 1; y < Math.min(y1, this.height); y++)
      this.pixels.copyWithin(y * this.width + left, first + left, first + right);
  }

  put(context: CanvasRenderingContext2D): void {
    if (this.image) context.putImageData(this.image, 0, 0);
  }
}
