from harness import Subject

SUBJECTS: list[type[Subject]] = []
