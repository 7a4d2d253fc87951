"""Will a unit that stopped learning come back? See :mod:`defib.diagnosis.prognosis.foresight`."""
