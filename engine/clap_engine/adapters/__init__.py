"""Events of an engine -> metrics libraries, each in its own module with its own extra.

In:  events.
Out: instruments of OpenTelemetry, or of Prometheus' client.
Knows nothing about engines: what is counted is what events say.
"""
