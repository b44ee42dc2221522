"""The expectations: one module a family of calls, each with `STEPS`, in the order in which they run.

Every step names what it rests on: `onprem`, `cloud` and `client` are the documents of facts, with their section.
"""
