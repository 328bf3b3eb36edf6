// The data of a page: what views/page.py packed, back as typed arrays.

export type { Head, Meta, Names, PageData } from "./schema";

/** Values (u) or differences (d) of 1, 2, 4 or 6 bytes, or float64: see views/page.py. */
type Code = "u1" | "u2" | "u4" | "u6" | "d1" | "d2" | "d4" | "d6" | "f8";
type Section = [code: Code, at: number, length: number];
type Arrays = readonly { name: string; kind: "indices" | "numbers" }[];

/** Read the page's data block, or what its server has as "data". */
export async function readPage<Data>(wanted: Arrays): Promise<Data> {
  const bytes = await inflate(await packedBytes());
  const headerLength = new DataView(bytes.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + headerLength))) as {
    meta: unknown;
    sections: Record<string, Section>;
  };
  const arrays = wanted.map(({ name, kind }) => {
    const section = header.sections[name];
    if (!section) return [name, null];
    const into = kind === "indices" ? new Int32Array(section[2]) : new Float64Array(section[2]);
    decode(bytes.buffer, 4 + headerLength, section, into);
    return [name, into];
  });
  return { meta: header.meta, ...Object.fromEntries(arrays) } as Data;
}

function decode(buffer: ArrayBuffer, start: number, section: Section, into: Int32Array | Float64Array): void {
  const [code, at, length] = section;
  const Kind = { f8: Float64Array, "1": Uint8Array, "2": Uint16Array, "4": Uint32Array, "6": Uint32Array };
  const low = new Kind[code === "f8" ? code : (code[1] as "1")](buffer, start + at, length);
  into.set(low);
  if (code[1] === "6") {
    const high = new Uint16Array(buffer, start + at + 8 * Math.ceil(length / 2), length);
    for (let i = 0; i < length; i++) into[i] += high[i] * 2 ** 32;
  }
  if (code[0] === "d") for (let i = 1; i < length; i++) into[i] += into[i - 1];
}

async function packedBytes(): Promise<Uint8Array<ArrayBuffer>> {
  const element = document.getElementById("data");
  if (element) {
    const text = element.textContent ?? "";
    element.remove();
    return decodeBase64(text);
  }
  const response = await fetch("data");
  if (!response.ok) throw new Error(`its server says ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
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
