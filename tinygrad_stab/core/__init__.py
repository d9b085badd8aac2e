"""The engine. Read it in this order: `mode`, `operand`, `primitive`, `tensor`, `backward`,
`functional`; `symbol` is the same rules read as formulas.
"""
