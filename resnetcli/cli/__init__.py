"""The command line: flags become one config, one call of a service and one report. Nothing here imports torch."""
