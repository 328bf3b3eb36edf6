// What fits of a function's name into a frame: the longest of its forms, else the beginning of its shortest.

import { nameForms } from "./shorten";

/** Widths of texts in one font, from the widths of their characters. */
export class Measure {
  private readonly ascii = new Float64Array(128);
  private readonly others = new Map<string, number>();
  private readonly forms = new Map<string, { text: string; width: number }[]>();

  constructor(private readonly context: CanvasRenderingContext2D) {
    for (let code = 32; code < 127; code++) this.ascii[code] = context.measureText(String.fromCharCode(code)).width;
  }

  /** The longest form of `name` that fits into `room` pixels; "" where not even three characters would. */
  fit(name: string, room: number): string {
    let forms = this.forms.get(name);
    if (!forms) {
      forms = nameForms(name).map((text) => ({ text, width: this.width(text.slice(0, 2000)) }));
      this.forms.set(name, forms);
    }
    for (const form of forms) if (form.width <= room) return form.text;
    const last = forms[forms.length - 1].text;
    // An address's end says more than the module that it starts with.
    return /\+0x[0-9a-f]+$/i.test(last) ? this.clipHead(last, room) : this.clipTail(last, room);
  }

  private width(text: string): number {
    let sum = 0;
    for (const character of text) sum += this.character(character);
    return sum;
  }

  private character(character: string): number {
    const code = character.charCodeAt(0);
    if (code < 128) return this.ascii[code];
    let width = this.others.get(character);
    if (width === undefined) {
      width = this.context.measureText(character).width;
      this.others.set(character, width);
    }
    return width;
  }

  private clipTail(text: string, room: number): string {
    let left = room - this.character("…");
    let end = 0;
    for (const character of text) {
      left -= this.character(character);
      if (left < 0) break;
      end += character.length;
    }
    const kept = text.slice(0, end).replace(/[<([{]…?$/, ""); // half a pair of brackets says nothing
    return end < 2 ? "" : `${kept}…`;
  }

  private clipHead(text: string, room: number): string {
    let left = room - this.character("…");
    let start = text.length;
    while (start) {
      left -= this.character(text[start - 1]);
      if (left < 0) break;
      start--;
    }
    return text.length - start < 2 ? "" : `…${text.slice(start)}`;
  }
}
