"""The doctor: examines the machine, the model and the broker, and says what to do.

Facts are gathered apart from the verdicts on them: what looks (`machine`, `torch_build`, `model`,
`store`, `broker`, `management`) takes time and may hang; what judges (`*_verdicts`) is pure.
"""
