"""Fifty names that somebody may give to a method, a model, a task or a language."""

from __future__ import annotations

HOSTILE_NAMES = (
    "x/../../../../PWNED/y", "../PWNED", "..", ".", "/PWNED", "/etc/passwd", "~/PWNED", "~root/x",
    "..\\..\\PWNED", "C:\\PWNED", "C:PWNED", "\\\\host\\share", "a/b", "./a", "a/", "a\0b",
    "$(touch PWNED)", "`touch PWNED`", "; touch PWNED", "| touch PWNED", "&& touch PWNED",
    "> PWNED", "'; touch PWNED; '", '"; touch PWNED; "', "-rf", "--output=PWNED", "*", "?",
    "%2e%2e%2f", "CON", "NUL.txt", "com1", "x" * 5000, "č" * 120, ".hidden", "trailing.", " space ",
    "", "new\nline", "tab\tcell", "\x1b]0;PWNED\x07", "\x9b2J", "\u202egnp.exe", "\u2028line",
    "\ud800", "=1+1", ";=1+1", "<img src=x onerror=alert(1)>", "[a](javascript:alert(1))|b",
    "\\input{/etc/passwd}",
)  # fmt: skip
