"""The synthetic tissue of the demo cohort. Only the demo's script, the tests and the benchmarks use it."""
