"""A milter on libmilter: refuses, defers, discards by subject and recipient, and says what it saw."""

import Milter


class Filter(Milter.Base):
    def envfrom(self, sender, *parameters):
        self.sender, self.subject, self.octets = sender, "", 0
        return Milter.CONTINUE

    def envrcpt(self, recipient, *parameters):
        if "bob" in recipient:
            self.setreply("550", "5.7.9", "bob is not at home")
            return Milter.REJECT
        return Milter.CONTINUE

    def header(self, name, value):
        if name == "Subject":
            self.subject = value
        return Milter.CONTINUE

    def body(self, chunk):
        self.octets += len(chunk)
        return Milter.CONTINUE

    def eom(self):
        if "virus" in self.subject:
            self.setreply("550", "5.7.8", "a virus is in it")
            return Milter.REJECT
        if "noise" in self.subject:
            return Milter.DISCARD
        self.addheader("X-Filter", "%s %d octets" % (self.sender, self.octets))
        return Milter.CONTINUE


Milter.factory = Filter
Milter.set_flags(Milter.ADDHDRS)
Milter.runmilter("filter", "inet:8890@0.0.0.0", 60)
