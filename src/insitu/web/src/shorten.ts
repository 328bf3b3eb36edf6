// Functions' names where room is short: which of a name's parts go first, and how names that shorten alike differ.
//
// The terminal shortens by the same rule (views/function_names.py, which explains it); tests/unit/function_names.json
// tests both.

const MOST = 10_000; // characters that are looked at
const DEEPEST = 100; // brackets within each other; what nests deeper is left as it is
const CLOSING: Record<string, string> = { "(": ")", "[": "]", "{": "}", "<": ">" };
const OPERATOR =
  /operator(?:\(\)|\[\]|<=>|->\*?|<<=?|>>=?|&&|\|\||\+\+|--|[<>=!+\-*/%^&|~,]=?|""\s?[\p{L}\p{N}_]+| (?:new|delete)(?:\[\])?| co_await)/uy;
const CONVERSION = /operator (?=[\p{L}\p{N}_:(])/uy;
const WORD = /[\p{L}\p{M}\p{N}_$~')\]}>]/u; // what a list of arguments or parameters may follow
const PLACE = /[ :](?=(?:file:\/\/|node:(?!:)|\/)\S*$)/;
const NAMELESS = /^[\p{L}\p{N}_]+:[~*^+]?(?:<anonymous>|\(anonymous\))?$/u;
const PSEUDO = /<(?:impl .*|(?:cl)?init|module|lambda|[\p{L}\p{N}_]+comp|genexpr|locals|anonymous|string|unknown)>/uy;
const TAIL =
  /(?: (?:const|volatile|noexcept|&&?)(?![\p{L}\p{N}_])| \[clone [^\]]*\]| \(\.[^)]*\)|\[[\p{L}\p{N}_]+\]$|(?: async| throws)* -> .*$)*/uy;
const CLONE = / \[clone [^\]]*\]| \(\.[^)]*\)/y;
const HASH = /::h[0-9a-f]{16}$/;
const PACKAGE = /\/[\p{L}_][^:]*\.[^:]*$/uy;
const TELLING = /[\p{L}_~]/u;
const TIER = /[A-Za-z]+:[~*^+](?=[\p{L}_$][^\s<]*$)/uy; // "JS:*": of what is compiled, and how far
const KEPT_HEAD = /(?:\b(?:in|to|for|of)|#\d+) $/;

class Unbalanced extends Error {}

/** `name`, then ever shorter forms of it, each of which still says which function it is. */
export function nameForms(name: string): string[] {
  const forms = formsToShort(name);
  return everShorter([...forms, withoutScope(forms[forms.length - 1])]);
}

/** `name` without its place in a script, its parameters, its return type and its template arguments. */
export function shortName(name: string): string {
  const forms = formsToShort(name);
  return forms[forms.length - 1];
}

/**
 * The short names of `names`, but longer forms of those that shorten alike. Equal names of different `modules` (paths,
 * one for each name) are followed by the modules' labels.
 */
export function toldApart(names: string[], modules: string[] = []): string[] {
  const shown = apart(names.map((name) => formsToShort(name).reverse()));
  if (!modules.length) return shown;
  const labels = moduleLabels(modules);
  const among = new Map<string, Set<string>>();
  for (const [i, text] of shown.entries()) among.set(text, (among.get(text) ?? new Set()).add(modules[i]));
  return shown.map((text, i) => (labels[i] && (among.get(text)?.size ?? 0) > 1 ? `${text} (${labels[i]})` : text));
}

/** The file names of modules' paths, with as much of their directories as tells different ones apart. */
export function moduleLabels(paths: string[]): string[] {
  return apart(paths.map(pathForms));
}

function pathForms(path: string): string[] {
  const parts = path.split("/");
  if (path.startsWith("[") || !parts[parts.length - 1]) return [path];
  return parts.map((_, i) => parts.slice(parts.length - 1 - i).join("/"));
}

/** Of each item the first form that no other item has, its last at most; items of equal last forms are equal. */
function apart(forms: string[][]): string[] {
  const level = forms.map(() => 0);
  const last = (at: number): string => forms[at][forms[at].length - 1];
  for (let raised = true; raised; ) {
    raised = false;
    const alike = new Map<string, number[]>();
    for (const [i, own] of forms.entries()) {
      const group = alike.get(own[level[i]]);
      if (group) group.push(i);
      else alike.set(own[level[i]], [i]);
    }
    for (const group of alike.values()) {
      if (new Set(group.map(last)).size < 2) continue;
      for (const i of group) {
        if (level[i] + 1 === forms[i].length) continue;
        level[i]++;
        raised = true;
      }
    }
  }
  return forms.map((own, i) => own[level[i]]);
}

function formsToShort(name: string): string[] {
  if (isLabel(name)) return [name];
  const text = name.slice(0, MOST);
  const place = PLACE.exec(text);
  if (place) {
    const stem = text.slice(0, place.index);
    const file = text.slice(text.lastIndexOf("/") + 1);
    const where = text.slice(place.index + 1);
    const withFile = `${stem}${place[0]}${where.includes("/") ? file : where}`;
    return everShorter([name, withFile, ...(NAMELESS.test(stem) ? [] : [stem])]);
  }
  const bare = text.replace(HASH, "");
  try {
    return everShorter([name, ...[MOST, 1, 0].map((levels) => scanned(bare, levels))]);
  } catch (error) {
    if (error instanceof Unbalanced) return [name];
    throw error;
  }
}

/** Is it no function, but a module or a wait: "[libc.so.6]", "[fsync /tmp/f]"? */
function isLabel(name: string): boolean {
  return name.startsWith("[") && name.endsWith("]");
}

function everShorter(forms: string[]): string[] {
  const kept: string[] = [];
  for (const form of forms) {
    if (!kept.length || (form && form.length < kept[kept.length - 1].length)) kept.push(form);
  }
  return kept;
}

/** What `expression`, which is sticky, matches at `at`; "" where it does not. */
function matched(expression: RegExp, text: string, at: number): string {
  expression.lastIndex = at;
  return expression.exec(text)?.[0] ?? "";
}

/** `name` without parameters and return type; template arguments deeper than `levels` are left out. */
function scanned(name: string, levels: number): string {
  let out = "";
  let head = 0; // where the last word begins in `out`
  let signed = false; // whether it has parameters
  let at = 0;
  while (at < name.length) {
    const character = name[at];
    const before = at ? name[at - 1] : "";
    const operator = operatorAt(name, at);
    if (operator) {
      out += matched(OPERATOR, operator, 0) ? operator : bracketed(operator, "", levels);
      at += operator.length;
      const rest = name.startsWith(" <", at) ? at + 1 : at;
      if (name[rest] === "<") {
        const end = endOf(name, rest);
        if (levels) out += `${name.slice(at, rest)}<${argumentsOf(name.slice(rest + 1, end), levels)}>`;
        at = end + 1;
      }
      if (name[at] === "(") {
        at = afterParameters(name, endOf(name, at) + 1);
        signed = true;
      }
    } else if (character === "(" && WORD.test(before)) {
      const end = endOf(name, at);
      if (name[end + 1] === ".") {
        out += "(…)";
        at = end + 1;
      } else {
        at = afterParameters(name, end + 1);
        signed = true;
      }
    } else if (character === "<" && (WORD.test(before) || (out.endsWith("::") && !matched(PSEUDO, name, at)))) {
      const end = endOf(name, at);
      out += `<${argumentsOf(name.slice(at + 1, end), levels)}>`;
      at = end + 1;
    } else if (character === "[" && WORD.test(before)) {
      const end = endOf(name, at);
      const inner = name.slice(at + 1, end);
      if (!inner.startsWith("abi:")) out += `[${argumentsOf(inner, levels)}]`;
      at = end + 1;
    } else if (character in CLOSING) {
      const end = endOf(name, at);
      out += `${character}${bracketed(name.slice(at + 1, end), character, levels)}${name[end]}`;
      at = end + 1;
    } else if (")]}".includes(character) || (character === ">" && before !== "-" && before !== "=")) {
      throw new Unbalanced();
    } else if (character === " ") {
      const clone = matched(CLONE, name, at);
      if (!clone) {
        out += " ";
        head = out.length;
        signed = false;
      }
      at += clone.length || 1;
    } else {
      out += character;
      at++;
    }
  }
  if (signed && !KEPT_HEAD.test(out.slice(0, head))) out = out.slice(head);
  return out.trim();
}

/** The C++ operator's name that begins at `at`, of a conversion with its type; "" where none does. */
function operatorAt(name: string, at: number): string {
  if (!name.startsWith("operator", at) || (at && /[\p{L}\p{N}_$]/u.test(name[at - 1]))) return "";
  const symbol = matched(OPERATOR, name, at);
  if (symbol) return symbol;
  const conversion = matched(CONVERSION, name, at);
  if (!conversion) return "";
  let end = at + conversion.length;
  try {
    while (end < name.length && name[end] !== "(")
      end = name[end] === "<" || name[end] === "[" ? endOf(name, end) + 1 : end + 1;
  } catch (error) {
    if (error instanceof Unbalanced) return "";
    throw error;
  }
  return name.slice(at, end);
}

function afterParameters(name: string, at: number): number {
  return at + matched(TAIL, name, at).length;
}

/** Template arguments as far as `levels` show them. */
function argumentsOf(inner: string, levels: number): string {
  if (levels >= MOST || inner.length < 2) return inner;
  if (!levels) return "…";
  let out = "";
  let at = 0;
  while (at < inner.length) {
    const operator = operatorAt(inner, at);
    if (operator) {
      out += operator;
      at += operator.length;
    } else if (inner[at] in CLOSING && !isComparison(inner, at)) {
      const end = endOf(inner, at);
      out += `${inner[at]}${argumentsOf(inner.slice(at + 1, end), levels - 1)}${inner[end]}`;
      at = end + 1;
    } else {
      out += inner[at++];
    }
  }
  return out;
}

/** What stands in brackets that are part of a name: of lambdas without parameters, of types without arguments. */
function bracketed(inner: string, opening: string, levels: number): string {
  let out = "";
  let at = 0;
  while (at < inner.length) {
    const character = inner[at];
    if (!(character in CLOSING) || isComparison(inner, at)) {
      out += character;
      at++;
      continue;
    }
    const end = endOf(inner, at);
    const within = inner.slice(at + 1, end);
    if ("<[".includes(character) && WORD.test(at ? inner[at - 1] : ""))
      out += `${character}${argumentsOf(within, levels)}${inner[end]}`;
    else if (character !== "(" || opening !== "{")
      out += `${character}${bracketed(within, character, levels)}${inner[end]}`;
    at = end + 1;
  }
  return out;
}

/** Where the bracket at `start` closes. */
function endOf(name: string, start: number): number {
  const open: string[] = [];
  for (let at = start; at < name.length; at++) {
    const character = name[at];
    if (character in CLOSING && (at === start || !isComparison(name, at))) {
      open.push(CLOSING[character]);
      if (open.length > DEEPEST) throw new Unbalanced();
    } else if (character === ">") {
      if (open[open.length - 1] === ">" && name[at - 1] !== "-" && name[at - 1] !== "=") open.pop();
    } else if (")]}".includes(character)) {
      if (open.pop() !== character) throw new Unbalanced();
    } else if (character === "o") {
      const symbol = matched(OPERATOR, operatorAt(name, at), 0);
      if (symbol) {
        at += symbol.length - 1;
        continue;
      }
    }
    if (!open.length) return at;
  }
  throw new Unbalanced();
}

/** Whether the "<" at `at` compares, or shifts, within an argument: "f<(1 < 2)>". */
function isComparison(name: string, at: number): boolean {
  return name[at] === "<" && name[at - 1] === " " && " <=".includes(name[at + 1] ?? "-");
}

/** The part from the last word of `short` on that names something; operators and lambdas name nothing. */
export function withoutScope(short: string): string {
  if (isLabel(short)) return short;
  const tier = matched(TIER, short, 0);
  if (tier) return short.slice(tier.length);
  const starts = [0];
  let depth = 0;
  for (let at = 0; at < short.length; at++) {
    const operator = operatorAt(short, at);
    const character = short[at];
    if (operator) at += operator.length - 1;
    else if (character in CLOSING) depth++;
    else if (")]}".includes(character) || (character === ">" && short[at - 1] !== "-" && short[at - 1] !== "="))
      depth--;
    else if (!depth && character === " ") return short;
    else if (!depth && short.startsWith("::", at)) starts.push(++at + 1);
    else if (!depth && character === "/" && matched(PACKAGE, short, at)) starts.push(at + 1);
  }
  const telling = starts.reverse().find((start) => TELLING.test(short[start] ?? "") && !operatorAt(short, start));
  return short.slice(telling ?? 0);
}
