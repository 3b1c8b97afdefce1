"""resnetcli: train, evaluate, inspect and predict with a small ResNet-50 on CIFAR-10-sized images."""

__version__ = "0.1.0"
