"""Hand out the exercises to a class, and grade what comes back: the command `attn-course`.

What students hand in is never trusted. It is read as data and runs in a jail (`jail`, `runner`);
what comes out of the jail is bytes, checked before they are numbers (`wire`); what is right is
decided outside of it (`grading`).
"""
