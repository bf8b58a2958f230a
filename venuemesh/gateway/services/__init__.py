"""The servicers of a gateway: thin, one module per service. They parse, call the frame and build the answer."""
