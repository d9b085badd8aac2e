"""The primitives, from simple to involved: every operation is one record.

To add one, write its record in the file where it belongs and its public name in the package's
``__init__``; operators, NumPy dispatch, tests, formulas and documentation follow from the record.
"""
