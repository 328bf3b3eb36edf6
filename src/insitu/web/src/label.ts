// What fits of a function's name into a frame: its place in a script goes first, then parameters, then template
// arguments, then the scope.

/** Where interpreters' perf maps say a function is: "JS:*sort /srv/app.js:8:19", "py::sort:/srv/app.py". */
const PLACE = /[ :](file:\/\/|node:|\/)\S*$/;
const OPERATOR = /^(?:(.*)::)?(operator\s*(?:\(\)|\[\]|[<>=!+\-*/%^&|~,]+))/;

/** `name` in ever shorter forms, each of which still says which function it is. */
export function shorterForms(name: string): string[] {
  const forms = [name];
  const add = (form: string): void => {
    const trimmed = form.trim().replace(/^::/, "");
    if (trimmed && trimmed.length < forms[forms.length - 1].length) forms.push(trimmed);
  };
  if (!OPERATOR.test(name)) {
    add(name.replace(PLACE, ""));
    add(withoutTail(withoutBracketed(forms[forms.length - 1], "(", ")").replace(/(::)+/g, "::")));
  }
  add(plainName(name));
  const plain = forms[forms.length - 1];
  const scope = plain.lastIndexOf("::", OPERATOR.test(name) ? plain.lastIndexOf("::operator") - 1 : undefined);
  if (scope > 0) add(plain.slice(scope + 2));
  return forms;
}

/** `name` without its place, its parameters and its template arguments. */
export function plainName(name: string): string {
  const operator = OPERATOR.exec(name);
  // Of an operator's name its brackets are a part.
  if (operator) return operator[1] ? `${plainName(operator[1])}::${operator[2]}` : operator[2];
  if (/^[<[(]?[\w ]*[\])>]?$/.test(name)) return name;
  // Rust's "<Type as Trait>::method" is the type's method first of all.
  const method = name.replace(/^<(.+?) as .+>::/, "$1::");
  const bare = withoutTail(withoutBracketed(method.replace(PLACE, ""), "(", ")"));
  return withoutBracketed(bare, "<", ">").replace(/(::)+/g, "::").trim().replace(/^::/, "") || name;
}

/** `text` without what stands between balanced `open` and `close`; whole when they are not balanced. */
function withoutBracketed(text: string, open: string, close: string): string {
  let depth = 0;
  let kept = "";
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    const arrow = character === ">" && (text[i - 1] === "-" || text[i - 1] === "=");
    if (character === open) depth++;
    else if (character === close && !arrow) {
      if (--depth < 0) return text;
    } else if (!depth) kept += character;
  }
  return depth ? text : kept;
}

function withoutTail(text: string): string {
  return text.replace(/ (const|volatile|noexcept|&&?|\[clone [^\]]*\])/g, "");
}

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
      forms = shorterForms(name.length > 2000 ? name.slice(0, 2000) : name).map((text) => ({
        text,
        width: this.width(text),
      }));
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
    return end < 2 ? "" : `${text.slice(0, end)}…`;
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
