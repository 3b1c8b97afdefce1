"""`python -m resnetcli` is the same program as `resnetcli`."""

from resnetcli.cli.main import main

if __name__ == "__main__":
    main()
