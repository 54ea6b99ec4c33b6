"""Where two models first differ, tensor by tensor."""
