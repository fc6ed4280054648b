"""From a TeamSpec to what Kubernetes runs: values (pure), charts, and the Helm engine that proves them."""
