"""The normative statements that no test of a server can show, each with the reason.

Rules: one short true sentence each; an id that a test carries may not stand here as well; when the
broker gains what a row says it lacks, the row goes and a test comes.
"""

CLIENT = "It binds the client."
SENDER = "It binds who sends the packet; a server only receives it."

NOT_APPLICABLE: dict[str, dict[str, str]] = {
    "v5": {},
    "v311": {},
}
