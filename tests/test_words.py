"""Messages, docstrings, comments and pages are in plain technical English: phrases that a reader has to decode stay out."""

import re
import subprocess

import pytest
from support import ROOT

# Phrase (a regular expression) -> what to write instead.
PHRASES = {
    r"(is|are|be|was|were|being) told\b": "is reported, is raised",
    r"\btells? (of|which|that|what|the user|a fault|faults)\b": "reports, says",
    r"\bhangs? on\b": "depends on",
    r"\blets? go\b": "releases",
    r"\b(is|are|was|were) passed over\b": "is skipped",
    r"\bnobody (knows|has)\b": "is unknown, has not been",
    r"\bin our (own )?words\b": "say what happens",
    r"\b(goes|go|going|went|gone) on (with|from|where|to train)\b": "resume",
    r"\bout of sight\b": "hide",
    r"\bnot for want of\b": "not because of",
    r"\ba matter of belief\b": "not measured",
    r"\breckon": "estimate",
    r"\bheed(s|ed|ing)?\b": "listen, handle",
    r"\bcalled (Positive|Negative|so)\b": "is classified as, predicted",
    r"\bcalls? (a|one|each|the) (study|view|image|film)\b": "classify",
    r"\b(is|are|were|was) (not )?called by (one|its|their)\b": "is classified by",
    r"\bnot called\b": "not classified",
    r"\bis no (folder|file|table|JSON|image|number|label|run folder|view|network)\b": "is not a ...",
    r"\blet in\b": "accepted",
    r"\bcame? out (as|at|the same)\b": "is",
    r"\bspread over seeds\b": "standard deviation over seeds",
    r"\bdeviation 1\b(?<!standard deviation 1)": "standard deviation 1",
    r"\bwithout a word of\b": "without",
    r"\bwho(ever)? beats whom\b": "what overrides what",
    r"\bhow it went\b": "outcome",
    r"\bstands? (there )?twice\b": "is repeated",
}
# A format keeps its words: what is quoted here stands in files that earlier versions wrote, or is another program's.
ALLOWED = ("so-called",)
FILES = subprocess.run(["git", "ls-files", "*.py", "*.md"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
PAGES = [name for name in FILES if not name.startswith("tests/") and (ROOT / name).is_file()]


@pytest.mark.skipif(not FILES, reason="no git checkout")
@pytest.mark.parametrize("name", PAGES)
def test_plain_words(name):
    text = (ROOT / name).read_text()
    found = []
    for phrase, instead in PHRASES.items():
        for match in re.finditer(phrase, text, flags=re.IGNORECASE):
            if not any(allowed in match[0] for allowed in ALLOWED):
                found.append(f"line {text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}; write: {instead}")
    assert not found, "\n".join(found)
