"""What a secret looks like in a text: by the format of its issuer, by what it is assigned to, or because it is random.

The patterns are made for lines that people write, and each has a limit, so that no line takes long.
"""

import re
from collections.abc import Container, Iterator

from scripts.secret_formats import Match, is_placeholder, issued_secrets

# A name, and what it is set to: `name = "value"`, `"name": 'value'`, `name: str = "value"`, `name=value`,
# `x["name"] = "value"`, `("name", "value")`, `| name | value |`.
_QUOTED = r"[bBrRuUfF]{0,2}\\?(?P<quote>[\"'`])(?P<quoted>[^\"'`\n\\]{0,4096})\\?(?P=quote)"
_ASSIGNED = re.compile(
    r"(?<![\w.])(?P<name>[A-Za-z_][\w.-]{0,79})(?:\\?[\"'])?\]?\s{0,20}"
    r"(?P<sign>:\s{0,9}[A-Za-z][\w.\[\]| ]{0,30}=(?=\s*\w?[\"'])|:=|=>|==|=|:|\||,(?=\s*[\"']))[\s(*_]{0,20}"
    rf"(?:{_QUOTED}|(?P<plain>[^\s\"'`,;)}}\]&|]{{1,512}}(?![\"'`(\[])))"
)
# Without a sign between: an option of a command, an element, a call, an instruction, a phrase.
_SPACED = re.compile(
    r"(?i)(?:(?<![\w-])--?(?P<option>[a-z][\w-]{0,40})\s+|<(?P<element>[a-z][\w:.-]{0,40})>|"
    r"\b(?P<call>\w{0,40})\(\s*(?=[\"'])|^\s*(?:env|arg|setenv)\s+(?P<variable>\w{1,80})\s+|"
    r"(?P<phrase>\b(?:password|passwort|passphrase|identified by|api key|access key|securestring)\s+"
    r"(?:is\s+|for\s+\w+\s+is\s+|-string\s+)?|^\s*[\w-]{0,40}pass\s+(?=\S+\s*$)))"
    rf"(?:{_QUOTED}|(?P<plain>[^\s\"'`<>,;)]+))"
)
# The value stands on the next line.
_CONTINUED = re.compile(
    r"(?i)(?:pass|pwd|secret|token|key|auth|credential)[\w-]{0,20}[\"']?\]?\s*[=:|(,>\\][=:|(,>\\\s]*$"
)
_OPEN = tuple("=:|(,>\\")
# Name and value as values themselves, in two lines or one.
_NAMED_PAIR = re.compile(
    r"(?i)(?:\b(?:name|key)[\"']?\s*[:=]\s*[\"']?(?P<name>[\w.-]{1,80})[\"']?,?\s*[\"']?value[\"']?\s*[:=]\s*|"
    r"\bvariable\s+\"(?P<variable>\w{1,80})\"\s*\{[^}]{0,200}?\bdefault\s*=\s*)"
    r"(?:\"(?P<quoted>[^\"\n]*)\"|(?P<plain>[^\s\"'/>]+))"
)
# User and password, one after the other.
_LOGIN = re.compile(
    r"(?i)(?:auth\w{0,10}\s*=\s*[(\[]|basic_?auth\(|\blogin\(|credentials?\()\s*[\"'][^\"']{1,80}[\"'],\s*"
    r"[\"'](?P<value>[^\"']{5,200})[\"']"
)
_PASSWORD = re.compile(
    r"pass?word|passwd|passwort|passphrase|kennwort|^pwd$|(?:db|user)pwd$|(?:bind|root|admin|user)pw$|^pass$|(?:db|user|require)pass$"
)
_SECRET = re.compile(
    r"secret|token|apikey|accesskey|accountkey|privatekey|signingkey|encryptionkey|masterkey|authkey|sharedkey|sessionkey|"
    r"fernetkey|licensekey|presharedkey|^psk$|credential|^auth$|authorization|bearer|cookie"
)
_SECRET_CALL = re.compile(r"(?:passw(?:or)?d|secret|token|key|login|credentials?|auth)$")
# What is said about a secret: where it is, how it is called, how many there are.
_ABOUT = re.compile(
    r"(?:file|path|name|names|url|uri|ref|type|length|len|hint|label|prompt|field|env|var|variable|policy|min|max|expiry|"
    r"ttl|count|size|limit|provider|scheme|header|endpoint|dir|arn|mode|format|class|method|prefix|suffix|regex|pattern|"
    r"param|column|index|placeholder|title|text|message|error|tokens|version|mount|store|manager|required|enabled|test)$"
)
# Numbers that say which bytes are meant, and open nothing.
_DIGEST = re.compile(
    r"(?i)(?:md5|shasum|sha_?-?\d|sha(?![a-z])|hash|digest|checksum|commit|\brev(?:ision)?\b|etag|integrity|\boid\b|blob|\btree\b|"
    r"fingerprint|nonce|public_?key|blake|crc|\bref\b|@|(?:run|trace|span|request|artifact|experiment)_?id)"
)
_RANDOM = r"[A-Za-z0-9+/_.~-]{16,512}={0,2}"
_PUBLIC_NAME = re.compile(
    r"(?:md5|shasum|sha\d*|hash|hashes|digest|checksum|commit|rev|revision|etag|integrity|oid|blob|fingerprint|nonce|publickey|uuid|"
    r"guid|runid|traceid|requestid|artifactid|outputid|cid|arn|path|file|filename|url|src|href|image|wheel|version|alphabet)$"
)
_DATA_ADDRESS = re.compile(r"data:[\w/+.;=-]{0,99};base64,[A-Za-z0-9+/=]+")
_TOKEN = re.compile(r"(?=[\"'`](?:[\w./-]{1,60}:)?(?P<value>[A-Za-z0-9+/_.~-]{16,512}(?:={0,2}|%3D|%3D%3D))\\?[\"'`])")
# Without quotes, where the line says what it is.
_BARE = re.compile(
    r"(?i:token|secret|passw|login|log in|credential|\bapi\b|\bauth|bearer|wandb|_key\b|\bkey\b).{0,80}?"
    r"(?<![\w+/=.:@-])(?P<value>[A-Za-z0-9+/_-]{20,512}={0,2})(?!\{|[\w+/=.:@-]\w)"
)
_SHA256 = re.compile("[0-9a-f]{64}")
_AFTER_FILE = re.compile(r"\.\w{1,6}\"?,$")
_PREFIXED = re.compile(
    r"(?<![\w+/=.:@-])(?P<prefix>(?:[A-Za-z][A-Za-z0-9]{0,9}[_-]){1,4})(?P<value>[A-Za-z0-9]{20}[\w-]{0,200})(?![\w+/=])"
)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_REFERENCE = re.compile(
    r".*[{}\\…].*|\$[\w(].*|<.*|%\w+%?|\w*\(.*|[&*!@#][A-Za-z_.-]*|~?/.*|\.{1,2}/.*|https?:.*|"
    r"[A-Za-z_]\w{0,30}(?:\.[A-Za-z_]\w{0,30})+"
)
# The 158 most frequent pairs of letters in English words (norvig.com/mayzner.html), three quarters of all.
_PAIRS = frozenset(
    """th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic
    ne ea ra ce li ch ll be ma si om ur ca el ta la ns di fo ho pe ec pr no ct us ac ot il tr ly nc et ut ss so rs un lo
    wa ge ie wh ee wi em ad ol rt po we na ul ni ts mo ow pa im mi ai sh ir su id os iv ia am fi ci vi pl ig tu ev ld ry
    mp fe bl ab gh ty op wo sa ay ex ke fr oo av ag if ap gr od bo sp rd do uc bu ei ov by rm ep tt oc fa ef cu rn sc gi
    da yo cr""".split()
)
_CODE = tuple(".py .pyi .js .ts .tsx .jsx .mjs .java .go .rs .c .cc .cpp .h .cu .rb".split())
# How much of a long line around a value is looked at.
_NEAR = 500
_ALLOWED = "pragma: allowlist secret"
_NEXT_ALLOWED = "pragma: allowlist nextline secret"


def secrets_in(text: str, path: str, allowed: Container[str] = ()) -> set[Match]:
    """The secrets in a text, but for lines in `allowed` (of `allowed_lines`) and those that it says are none.

    In program code, which `path` tells, a value without quotes is the name of something.
    """
    lines = text.split("\n")
    code = path.endswith(_CODE)
    found = set(issued_secrets(text))
    # What no format tells, its name may, and what that does not, its looks.
    known = {match.line for match in found}
    for number, line in enumerate(lines, start=1):
        if number < len(lines) and line.rstrip().endswith(_OPEN) and _CONTINUED.search(line):
            both = f"{line[-200:].rstrip(' |>')} {lines[number].strip()}"
            found |= {Match(number + 1, kind) for kind in _named(both, code) if number + 1 not in known}
        if number not in known:
            found |= {Match(number, kind) for kind in set(_named(line, code)) or _random(line)}
    for match in _NAMED_PAIR.finditer(text):
        number = text.count("\n", 0, match.end()) + 1
        value, quoted = match["quoted"] or match["plain"] or "", match["quoted"] is not None
        for kind in _judged(_simple(match["name"] or match["variable"]), value, quoted):
            found |= {Match(number, kind)} if number not in known else set()
    if path.endswith((".csv", ".tsv")):
        found |= set(_in_columns(lines))
    here = allowed_lines(text)
    return {
        match for match in found if (line := lines[match.line - 1].strip()) not in allowed and _said(line) not in here
    }


def allowed_lines(text: str) -> set[str]:
    """What lines say, beside the comment, of which a comment in them or above says that they hold no secret."""
    lines = text.split("\n")
    return {
        _said(line)
        for above, line in zip(["", *lines], lines, strict=False)
        if _ALLOWED in line or _NEXT_ALLOWED in above
    }


def _said(line: str) -> str:
    return re.sub(rf"\s*(?:#|//|--|;|%|/\*|<!--)?\s*{_ALLOWED}.*", "", line).strip()


def _named(line: str, code: bool) -> Iterator[str]:
    """What stands where a password, a token or a key belongs."""
    line = _DATA_ADDRESS.sub("", line)
    position = 0
    while match := _ASSIGNED.search(line, position):
        # From the value's first character on: a value, such as a connection's, may hold names and values.
        position = match.end("name") + 1
        quoted = match["quoted"] is not None
        value = match["quoted"] if quoted else match["plain"]
        if quoted:
            # `("password", "…")` may set one, but of `["password", "token"]` each is a word.
            certain = match["sign"] != ","
        else:
            # Alone on its line or in a list such as an address has, not in a sentence or the name of something.
            before = line[max(match.start() - _NEAR, 0) : match.start()]
            listed = match["sign"] == "=" and before.endswith(("?", "&", ";"))
            certain = listed or (not code and not line[match.end() : match.end() + _NEAR].strip(" \t\r|;*`"))
        if certain or (re.search(r"\d", value) and (quoted or not code or _in_words(before))):
            yield from _judged(_simple(match["name"]), value, quoted or match["sign"] == "|")
    for match in _SPACED.finditer(line):
        quoted = match["quoted"] is not None
        value = match["quoted"] if quoted else match["plain"]
        if match["call"] is not None:
            if _SECRET_CALL.search(_simple(match["call"])) and _looks_generated(value):
                yield "secret in a call"
        elif match["phrase"] is not None:
            if quoted or (re.search(r"[a-zA-Z]", value) and re.search(r"\d", value)):
                yield from _judged("password", value, quoted)
        else:
            yield from _judged(_simple(match["option"] or match["element"] or match["variable"]), value, quoted)
    for match in _LOGIN.finditer(line):
        if _is_password(match["value"]):
            yield "password of a log-in"


def _in_words(before: str) -> bool:
    """Whether program code goes on inside a comment or a string."""
    quotes = before.count('"') % 2 + before.count("'") % 2
    return quotes > 0 or bool(re.search(r"(?:^|\s)(?:#|//|\*|--)", before))


def _in_columns(lines: list[str]) -> Iterator[Match]:
    names = [_simple(name) for name in re.split(r"[,;\t]", lines[0])]
    columns = [column for column, name in enumerate(names) if _PASSWORD.search(name) or _SECRET.search(name)]
    for number, line in enumerate(lines[1:], start=2) if columns else []:
        values = re.split(r"[,;\t]", line)
        for column in columns:
            if column < len(values):
                yield from (Match(number, kind) for kind in _judged(names[column], values[column].strip('"'), True))


def _simple(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.rpartition(".")[2].lower() or name.lower())


def _judged(name: str, value: str, quoted: bool) -> Iterator[str]:
    value = value.strip()
    if _ABOUT.search(name) or (not quoted and _REFERENCE.fullmatch(value)):
        return
    if _PASSWORD.search(name) and _is_password(value):
        yield "value of a password"
    elif _SECRET.search(name) and _looks_generated(value):
        yield "value of a secret, token or key"
    elif not quoted and not _PUBLIC_NAME.search(name) and re.fullmatch(_RANDOM, value) and _is_random(value):
        yield "random value"


def _is_password(value: str) -> bool:
    """A word alone, as in a translation or a form, is none; anything with a digit or a sign, or long, may be."""
    if len(value) < 6 or re.search(r"\s", value) or is_placeholder(value) or re.match(r"[$/]\w*[/{]|[$]\w+$", value):
        return False
    if re.search(r"[\d!#%^&*+=?~@$]", value):
        return True
    if "/" in value:  # a path
        return False
    return value.isascii() and len(value) >= 8 and not re.fullmatch(r"[A-Z][a-z]+|[A-Z_]+|[a-z]+[_-][a-z]+", value)


def _looks_generated(value: str) -> bool:
    """Less than `_is_random` asks, for a value whose name says already that it is a secret."""
    if len(value) < 8 or re.search(r"\s", value) or is_placeholder(value):
        return False
    if _UUID.fullmatch(value) or re.fullmatch(r"[0-9a-fA-F]{16,}", value):
        return bool(re.search(r"\d", value))
    if not re.search(r"[A-Za-z]", value) or not re.search(r"\d", value):
        return len(value) >= 16 and value.isalpha() and not _is_worded(value, 0.5)
    return not _is_worded(value, 0.62)


def _random(line: str) -> Iterator[str]:
    """What looks random in quotes, where the line speaks of a secret, or after a prefix, as issuers give them."""
    line = _DATA_ADDRESS.sub("", line)

    def is_random(value: str) -> bool:
        return _is_random(value) and (_is_random(value, hexadecimal=False) or not _DIGEST.search(line))

    for match in _TOKEN.finditer(line):
        before = line[max(match.start() - _NEAR, 0) : match.start()]
        name = _simple((re.findall(r"([\w.-]+)[\"']?\]?\s*[:=(]\s*$", before) or [""])[-1])
        # A table of files' digests names the files.
        if _PUBLIC_NAME.search(name) or re.search(r"\.\w{1,6}[\"']\s*[:,]\s*$", before):
            continue
        if is_random(match["value"]):
            yield "random string"
    for match in _BARE.finditer(line):
        # As in corrections.csv, whose images may be of keys.
        is_files_digest = _SHA256.fullmatch(match["value"]) and _AFTER_FILE.search(line, 0, match.start("value"))
        if not is_files_digest and is_random(match["value"]):
            yield "random word"
    for match in _PREFIXED.finditer(line):
        if not _DIGEST.search(match["prefix"]) and is_random(match["value"]):
            yield "random string after a prefix"


def _is_random(value: str, hexadecimal: bool = True) -> bool:
    """Letters and digits that no words, numbers or names make up. Hexadecimal ones may be a digest.

    What begins with AAAA and the length of its type's name is a public key of SSH (RFC 4253, 6.6).
    """
    if re.search(
        r"\.[A-Za-z]\w{0,4}$|^\.{0,2}/|^sha\d+-|^AAAA[BCEG][0-9a-zA-Z]{2}[A-Za-z0-9]", value
    ) or is_placeholder(value):
        return False
    if "." in value and max(map(len, value.split("."))) < 20:  # a.module.of.Python
        return False
    core = re.sub(r"[^A-Za-z0-9]", "", value)
    if len(re.findall(r"[A-Za-z](?=\d)|\d(?=[A-Za-z])", core)) < 2 or len(set(core)) < 8:
        return False
    if re.fullmatch(r"[0-9a-f-]+|[0-9A-F-]+", value):
        return hexadecimal and len(core) in range(32, 129) and not _UUID.fullmatch(value)
    if re.search(r"[A-Z][0-9a-f]{32}", value):  # hexadecimal after a prefix
        return hexadecimal
    mixed = core.lower() != core and core.upper() != core
    return len(core) >= (16 if mixed else 20) and not _is_worded(value, 0.5)


def _is_worded(text: str, share: float) -> bool:
    """Whether its letters follow each other as in words: at least this share of the pairs is among `_PAIRS`."""
    pairs = [
        word[start : start + 2].lower() for word in re.findall(r"[A-Za-z]+", text) for start in range(len(word) - 1)
    ]
    return len(pairs) > 2 and sum(pair in _PAIRS for pair in pairs) >= share * len(pairs)
