"""dkimpy's verdicts: on the messages of its own test suite, and on messages from standard input.

Run with the unpacked source distribution as the first argument. Standard input has one message a line, as JSON:
{"name": ..., "message": base64, "zone": {name: text}}. Standard output has the same lines for both, with what dkimpy says:
"dkim": for each signature {"domain", "selector", "algorithm", "length"} where it holds, else null; "arc": "pass", "fail" or "none".
"""

import base64
import io
import json
import re
import sys
import unittest

sys.path.insert(0, sys.argv[1])
import dkim  # noqa: E402
import dkim.tests.test_arc  # noqa: E402
import dkim.tests.test_dkim  # noqa: E402
import dkim.tests.test_dkim_ed25519  # noqa: E402
import dkim.tests.test_dkim_rsavariants  # noqa: E402

SUITES = (dkim.tests.test_dkim, dkim.tests.test_dkim_ed25519, dkim.tests.test_dkim_rsavariants, dkim.tests.test_arc)
VERIFY, ARC_VERIFY = dkim.DKIM.verify, dkim.ARC.verify
SET_MESSAGE = dkim.DomainSigner.set_message


def as_octets(text):
    return text.encode("utf-8") if isinstance(text, str) else text


class Zone:
    """A table of TXT records, or what a test of the suite has instead."""

    def __init__(self, dnsfunc):
        self.dnsfunc, self.asked = dnsfunc, {}

    def __call__(self, name, timeout=5):
        try:
            answer = self.dnsfunc(name)
        except Exception:  # the suite's own functions assert that they know the name
            answer = None
        if answer:
            self.asked[as_octets(name).decode("ascii", "replace")] = as_octets(answer).decode("utf-8", "replace")
        return answer


def judge(message, zone):
    message = b"\r\n".join(message.replace(b"\r\n", b"\n").split(b"\n"))
    try:
        signatures = [x for x, _ in dkim.DKIM(message).headers if x.lower() == b"dkim-signature"]
    except dkim.DKIMException:
        return None
    return {
        "message": base64.b64encode(message).decode(),
        "dkim": [judge_signature(message, zone, at) for at in range(len(signatures))],
        "arc": judge_arc(message, zone),
        "zone": zone.asked,
    }


def judge_signature(message, zone, at):
    signature = dkim.DKIM(message)
    try:
        passed = bool(VERIFY(signature, at, dnsfunc=zone))
    except dkim.DKIMException:
        passed = False
    if not passed:
        return None
    tags = signature.signature_fields
    tag = {"domain": b"d", "selector": b"s", "algorithm": b"a"}
    return {**{name: tags[key].decode() for name, key in tag.items()}, "length": b"l" in tags}


def judge_arc(message, zone):
    try:
        verdict = ARC_VERIFY(dkim.ARC(message), dnsfunc=zone)[0]
    except Exception:
        return "fail"
    # None: a chain that says itself that it failed.
    return (verdict or b"fail").decode()


def run_suite(found):
    def set_message(self, message):
        self.seen = message
        SET_MESSAGE(self, message)

    def verify(self, idx=0, dnsfunc=dkim.get_txt):
        found(self.seen, dnsfunc)
        return VERIFY(self, idx, dnsfunc)

    def arc_verify(self, dnsfunc=dkim.get_txt):
        found(self.seen, dnsfunc)
        return ARC_VERIFY(self, dnsfunc)

    dkim.DomainSigner.set_message, dkim.DKIM.verify, dkim.ARC.verify = set_message, verify, arc_verify
    load = unittest.defaultTestLoader.loadTestsFromModule
    result = unittest.TextTestRunner(stream=io.StringIO()).run(unittest.TestSuite(load(suite) for suite in SUITES))
    dkim.DomainSigner.set_message, dkim.DKIM.verify, dkim.ARC.verify = SET_MESSAGE, VERIFY, ARC_VERIFY
    if not result.wasSuccessful():
        sys.exit("dkimpy fails its own suite: %s" % [text for _, text in result.failures + result.errors])


def sealed(message, count, key, previous=b"none"):
    """The message with so many sets of ARC on top; the suite has one of one."""
    for number in range(count):
        results = b"Authentication-Results: relay.example.org; arc=%s; spf=pass smtp.mfrom=jqd@d1.example\r\n" % previous
        chain = dkim.arc_sign(results + message, b"test", b"example.com", key, b"relay.example.org", timestamp="1700000000")
        message, previous = b"".join(chain) + message, b"pass"
    return message


def chains():
    """Chains, whole and damaged in every part."""
    data = SUITES[0].read_test_data
    key = data("test.private")
    message = b"\r\n".join(data("test.message").replace(b"\r\n", b"\n").split(b"\n"))
    fields = (b"ARC-Seal:", b"ARC-Message-Signature:", b"ARC-Authentication-Results:")
    for count in (1, 2, 3):
        whole = sealed(message, count, key)
        yield "%d sets" % count, whole
        head, body = whole.split(b"\r\n\r\n", 1)
        yield "%d sets, another body" % count, head + b"\r\n\r\nx" + body
        yield "%d sets, another subject" % count, whole.replace(b"Subject: ", b"Subject: x", 1)
        yield "%d sets, more fields" % count, b"Received: x\r\nX-Field: y\r\n" + whole
        lines = re.split(rb"\r\n(?![ \t])", head)
        for at, field in enumerate(lines):
            if not field.startswith(fields):
                continue
            name = "%d sets, field %d" % (count, at)
            changes = {
                "missing": lines[:at] + lines[at + 1:],
                "twice": lines[:at] + [field] + lines[at:],
                "of another set": lines[:at] + [re.sub(rb"i=(\d)", rb"i=9", field, count=1)] + lines[at + 1:],
                "cv=pass": lines[:at] + [field.replace(b"cv=none", b"cv=pass")] + lines[at + 1:],
                "cv=fail": lines[:at] + [field.replace(b"cv=pass", b"cv=fail")] + lines[at + 1:],
                "another domain": lines[:at] + [field.replace(b"example.com", b"example.net")] + lines[at + 1:],
                "folded elsewhere": lines[:at] + [field.replace(b"; ", b";\r\n\t")] + lines[at + 1:],
                "other results": lines[:at] + [field.replace(b"spf=pass", b"spf=fail")] + lines[at + 1:],
                "last": lines[:at] + lines[at + 1:] + [field],
            }
            for change, changed in changes.items():
                yield "%s %s" % (name, change), b"\r\n".join(changed) + b"\r\n\r\n" + body


def main():
    cases, seen = [], set()

    def found(message, dnsfunc):
        case = judge(message, Zone(dnsfunc))
        if case and json.dumps(case) not in seen:
            seen.add(json.dumps(case))
            cases.append({"name": "dkimpy %d" % len(cases), **case})

    run_suite(found)
    record = SUITES[0].read_test_data("test.txt")
    for name, message in chains():
        case = judge(message, Zone({b"test._domainkey.example.com.": record}.get))
        cases.append({**case, "name": "dkimpy " + name})
    for line in sys.stdin:
        given = json.loads(line)
        zone = {name.lower(): text for name, text in given["zone"].items()}
        case = judge(base64.b64decode(given["message"]), Zone(lambda name: zone.get(as_octets(name).decode().lower())))
        if case:
            cases.append({**case, "name": given["name"], "zone": given["zone"]})
    for case in cases:
        print(json.dumps(case))


main()
