"""A network without TensorFlow, which tests give the estimates that they need."""


class FakeNetwork:
    """Takes everything that a network may take; subclasses give estimates by `__call__`.

    It gets ``inputs`` [S, protocol, sigma, rician, signed, known] as
    `relaxnet.networks.network.Network.estimate`, and returns (J, b, h, w, C), the last step's C
    channels being kappa and, where `has_std`, its standard deviations.
    """

    architecture = kind = "rim"
    model = None
    num_images, halo = None, 0
    takes_protocol = takes_sign = takes_sigma = takes_sigma_map = takes_rician = True
    has_std = False

    def estimate(self, inputs):
        return self(inputs, training=False)[-1]

    def with_std(self, inputs):
        values = self.estimate(inputs)
        Q = self.model.num_parameters
        return values[..., :Q], values[..., Q:]
