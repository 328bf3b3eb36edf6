// The data block of a page: what views/page.py packed, back as typed arrays.

import { ARRAYS, type Meta, type PageData } from "./schema";

export type { Meta, Names, PageData } from "./schema";

/** Values (u) or differences (d) of 1, 2 or 4 bytes, or float64: see views/page.py. */
type Code = "u1" | "u2" | "u4" | "d1" | "d2" | "d4" | "f8";
type Section = [code: Code, at: number, length: number];

export async function readPage(): Promise<PageData> {
  const element = document.getElementById("data");
  if (!element) throw new Error("the page has no data block");
  const bytes = await inflate(decodeBase64(element.textContent ?? ""));
  element.remove();
  const headerLength = new DataView(bytes.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + headerLength))) as {
    meta: Meta;
    sections: Record<string, Section>;
  };
  const start = 4 + headerLength;
  const raw = (name: string): { code: Code; array: Uint8Array | Uint16Array | Int32Array | Float64Array } => {
    const [code, at, length] = header.sections[name];
    const Kind =
      code === "f8" ? Float64Array : code[1] === "1" ? Uint8Array : code[1] === "2" ? Uint16Array : Int32Array;
    return { code, array: new Kind(bytes.buffer, start + at, length) };
  };
  const words = (name: string): Int32Array => {
    const { code, array } = raw(name);
    const values = array instanceof Int32Array ? array : Int32Array.from(array);
    if (code[0] === "d") for (let i = 1; i < values.length; i++) values[i] += values[i - 1];
    return values;
  };
  const numbers = (name: string): Float64Array => {
    const { code, array } = raw(name);
    return array instanceof Float64Array ? array : Float64Array.from(code[0] === "d" ? words(name) : array);
  };
  const arrays = ARRAYS.map(({ name, kind }) => [
    name,
    !(name in header.sections) ? null : kind === "indices" ? words(name) : numbers(name),
  ]);
  return { meta: header.meta, ...Object.fromEntries(arrays) } as PageData;
}

function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function inflate(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
