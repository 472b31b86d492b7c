"""The bundled model's vocabulary: 4,096 pieces in a fixed order, and the words of docs/tasks.md.

A piece is written as text with its leading space (" bada", " 417"); byte pieces stand for one byte each.
  0..7        special pieces          8..263      the 256 bytes
  264..1263   " 0" .. " 999"          1264..4063  " word(0)" .. " word(2799)"
  4064..4077  pieces of the grammar   4078..4095  common English words, to fill up
"""

SPECIAL = ["<|end|>", "<|begin|>", "<|pad|>"] + [f"<|reserved_{i}|>" for i in range(5)]
END, BEGIN, PAD = 0, 1, 2
BYTE0 = len(SPECIAL)
NUMBER0 = BYTE0 + 256
NUMBERS = 1000
WORD0 = NUMBER0 + NUMBERS
WORDS = 2800
GRAMMAR = [" pairs", " lists", " links", " numbers", " shots", " keys", " pass", " is", " =", " ..",
           " largest", " smallest", " second", " median"]
GRAMMAR0 = WORD0 + WORDS
FILL = [" the", " of", " and", " to", " in", " a", " for", " on", " with", " as", " that", " it", " was", " by",
        " at", " from", " be", " or"]
SIZE = 4096

CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


def word(i: int) -> str:
    """Content word i of docs/tasks.md, without its leading space."""
    j = (1999 * i) % 4900
    return "".join(CONSONANTS[s // 5] + VOWELS[s % 5] for s in (j // 70, j % 70))


def pieces() -> list:
    """All pieces in order of id: str for text and special pieces, bytes for the 256 byte pieces."""
    out = list(SPECIAL)
    out += [bytes([b]) for b in range(256)]
    out += [f" {n}" for n in range(NUMBERS)]
    out += [" " + word(i) for i in range(WORDS)]
    out += GRAMMAR + FILL
    assert len(out) == SIZE and len(set(out)) == SIZE
    return out


def grammar(piece: str) -> int:
    """Id of a piece of the grammar, for example " is"."""
    return GRAMMAR0 + GRAMMAR.index(piece)


def byte(char: str) -> int:
    return BYTE0 + ord(char)


NEWLINE, QUESTION, EQUALS, IS = byte("\n"), byte("?"), grammar(" ="), grammar(" is")


def render(ids) -> str:
    """Text of a list of ids; a leading <|begin|> is dropped. For the grammar's own texts (no split characters)."""
    table = pieces()
    raw = b"".join(p if isinstance(p, bytes) else p.encode() for p in (table[i] for i in ids if i != BEGIN))
    return raw.decode()
