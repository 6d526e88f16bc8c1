"""Secrets that their issuer's format tells: Kingfisher's rules (https://github.com/mongodb/kingfisher), and our own.

Kingfisher lacks the latter, or looks for them only where more is known, such as both parts of a pair.
"""

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from kingfisher_sdk import Rules, Scanner

# Each as its issuer's documentation gives it; `value` is the part that may be a placeholder.
_FORMATS = {
    # docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
    "AWS access key": r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    # docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html: opaque; it begins with coded protocol bytes
    "AWS session token": r"(?:IQoJ|FwoG|FQoG)[A-Za-z0-9+/]{80}",
    # learn.microsoft.com/azure/storage/common/storage-sas-overview; other signed addresses are made alike
    "token in an address": r"[?&](?:\w{0,20}(?:token|key|secret)|sig|signature|X-Amz-Signature)="
    r"(?P<value>[\w%+/-]{20,})|://(?=[\w-]{0,99}\d)[\w-]{20,256}@",
    # learn.microsoft.com/purview/sit-defn-azure-ad-client-secret
    "Azure client secret": r"(?<![\w~.-])[\w~.-]{3}\dQ~[\w~.-]{31,34}(?![\w~.-])",
    # discord.com/developers/docs/reference#authentication: its id, a time and a signature, each in base64
    "Discord token": r"(?<![\w.-])[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,40}(?![\w.-])",
    # discord.com/developers/docs/resources/webhook, api.slack.com/messaging/webhooks, help.zapier.com (webhooks)
    "webhook": r"(?:discord(?:app)?\.com/api/(?:v\d+/)?webhooks/\d+/[\w-]{20}|hooks\.slack\.com/\w+/\w+/\w+/\w{20}|"
    r"hooks\.zapier\.com/hooks/catch/\d+/\w+|\.webhook\.office\.com/webhookb?2?/[\w-]{36})",
    # core.telegram.org/bots/api#authorizing-your-bot
    "Telegram token": r"(?<![\w-])\d{8,10}:AA[\w-]{32,33}(?![\w-])",
    # support.google.com/cloud/answer/15549257, cloud.google.com/docs/authentication/api-keys
    "Google key": r"(?<![\w-])(?:GOCSPX-[\w-]{28}|AIza[\w-]{35})",
    # docs.newrelic.com/docs/apis/intro-apis/new-relic-api-keys
    "New Relic key": r"(?<![\w-])NR(?:AK|II|JS|RA)-[A-Za-z0-9-]{27}",
    # alibabacloud.com/help/en/ram/user-guide/create-an-accesskey-pair
    "Alibaba access key": r"(?<![A-Za-z0-9])LTAI[A-Za-z0-9]{12,24}(?![A-Za-z0-9])",
    # learn.microsoft.com/nuget/nuget-org/scoped-api-keys
    "NuGet key": r"(?<![A-Za-z0-9])oy2[a-z0-9]{43}(?![A-Za-z0-9])",
    # mailchimp.com/developer/marketing/guides/quick-start, developers.hubspot.com/docs/apps/legacy-apps/private-apps
    "key": r"(?<![\w-])(?:[0-9a-f]{32}-us\d{1,2}|(?:pat|sk|rk|key|token|secret)[-_][\w-]{0,12}"
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?![\w-])",
    # docs.djangoproject.com/en/stable/ref/settings/#secret-key
    "Django key": r"django-insecure-[^\s\"']{30}",
    # datatracker.ietf.org/doc/html/rfc7468, rfc4716 (SSH2), rfc9580 (PGP), the.earth.li/~sgtatham/putty (appendix C)
    "private key": r"-{4,5} ?BEGIN [A-Z0-9 ]{0,20}PRIVATE KEY(?: BLOCK)? ?-{4,5}|PuTTY-User-Key-File-\d:",
    # httpd.apache.org/docs/current/misc/password_encryptions.html, man 5 crypt
    "password's hash": r"(?:^|[:\"'\s=])(?:\$apr1\$|\$2[abxy]\$\d\d\$|\$[156y]\$|\{SHA\}|\$argon2\w{1,2}\$)"
    r"[\w./+=,$*-]{20}",
    # rfc-editor.org/rfc/rfc9110#name-authorization
    "authorization": r"(?i)\b(?:bearer|basic|digest|apikey|negotiate)\s{1,9}"
    r"(?=[a-z/+_.~-]{0,99}\d)(?P<value>[\w+/.~-]{16,})",
    "password in an address": r"\w://[^\s:/@$<{\"'`]{0,256}:(?P<value>[^\s:/@$<{\"'`]{1,256})@[\w\[{$%]",
    # docs.docker.com/reference/cli/docker/login: user and password in base64
    "registry log-in": r'"auth"\s*:\s*"[A-Za-z0-9+/]{16,}=*"',
    # kaggle.com/docs/api
    "Kaggle key": r'(?i)"username".{1,80}"key"\s*:\s*"[0-9a-f]{32}"',
    "password of a command": r"(?:\bcurl\b.{0,200}\s(?:-u|--user)[ =]?[\"']?[^\s:\"'$<{]+:|\bsshpass\s+-p\s*[\"']?|"
    r"\bmysql\w*\b.{0,99}\s-p|\blogin\b.{0,99}\s-p\s+)(?P<value>[^\s\"'$<{]{4,})",
    "password of a machine": r"\bmachine\s+\S+\s.{0,99}\bpassword\s+(?P<value>\S+)",
}
_PATTERNS = [(kind, re.compile(pattern)) for kind, pattern in _FORMATS.items()]

_PLACEHOLDER = re.compile(
    r"(?i)(?:(?:your|my|the|some|an?|enter|insert|change|replace|put|add|set|use|example|dummy|fake|sample|test)[\s_-].*|"
    r"(?:your|change|replace)(?:me|it|this|key|password|token|secret|value).*|.*[\s_.-](?:here|example|placeholder)|"
    r"(?-i:.*EXAMPLE(?:KEY)?=*)|[a-z_-]*(?:password|passwort|passwd|secret|token)s?|(.)\1{3,}|.*\.{3}|none|null|nil|true|"
    r"false|undefined|optional|required|string|example|dummy|placeholder|redacted|hidden|pass|user|foo|bar|postgres|"
    r"minioadmin|value|text|basic|bearer|disabled)"
)
# Kingfisher's rules that _FORMATS replaces: they take `postgres:postgres@localhost` and `{password}` for a password.
_LEFT_OUT = {
    f"betterleaks.{name}" for name in ("generic-credential-uri", "mongodb-connection-string", "curl-auth-user")
}


class Match(NamedTuple):
    """A secret's line, from 1, and its kind. The secret itself is kept nowhere."""

    line: int
    kind: str


def issued_secrets(text: str) -> Iterator[Match]:
    """The secrets in a text whose format tells who issued them."""
    yield from _kingfisher(text.encode(errors="replace"))
    # What the text as a whole does not match, none of its lines does; most match nothing.
    patterns = [(kind, pattern) for kind, pattern in _PATTERNS if pattern.search(text)]
    for number, line in enumerate(text.split("\n"), start=1) if patterns else ():
        for kind, pattern in patterns:
            if any(not is_placeholder(match.groupdict().get("value") or match[0]) for match in pattern.finditer(line)):
                yield Match(number, kind)


def secrets_in_bytes(content: bytes) -> set[str]:
    """The kinds of secrets in what is no text: only formats of issuers, which no chance meets, tell."""
    return {kind for _, kind in _kingfisher(b"\n".join(re.findall(rb"[\x20-\x7e]{12,}", content)))}


def _kingfisher(content: bytes) -> Iterator[Match]:
    for finding in _scanner().scan(content):
        if finding.visible and finding.rule_id not in _LEFT_OUT:
            # The rule's id, such as betterleaks.github-pat, is the shortest name that it has.
            yield Match(finding.to_dict()["location"]["line"], finding.rule_id.partition(".")[2] or finding.rule_id)


@functools.cache
def _scanner() -> Scanner:
    return Scanner(Rules(confidence="low"))


def is_placeholder(value: str) -> bool:
    """Whether a value says what to write there, or that something will be."""
    return bool(_PLACEHOLDER.fullmatch(value)) or bool(
        re.search(r"<[^>]*>|\$\{|\{\{|\$\(|%\(|\{[^{}]*\}|@[A-Z]\w*@", value)
    )
