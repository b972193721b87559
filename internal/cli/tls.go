package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"leasehold/internal/config"
	"leasehold/server/pki"
)

func (a *App) tlsCommand() *cobra.Command {
	return group("tls", "Show the CA certificate for clients", a.tlsCACommand())
}

func (a *App) tlsCACommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ca",
		Short: "Print the CA certificate for clients of this cluster",
		Long: "Prints the PEM of the CA that signs the nodes' certificates with tls = { mode = \"cluster-ca\" }. It is " +
			"derived from the\n" +
			"cluster's secret, the same on every node, and not secret itself. While the secret is being changed there are " +
			"two;\n" +
			"give clients both before you swap the lines of the secret file.",
		Example: "  leasehold tls ca > plant-7-ca.pem\n" +
			"  leasehold pub orders --key c-17 'hello' --server nats://10.0.0.11:4222 --user press-4 --tls-ca plant-7-ca.pem",
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(a.findConfig(cmd))
			if err != nil {
				return a.configError(err)
			}
			secrets, err := c.ReadSecrets()
			if err != nil {
				return err
			}
			if len(secrets.Keys) == 0 {
				return usage("%s: there is no cluster.secret_file, so there is no CA", c.Path())
			}
			ca, err := pki.ClientCA(secrets.Keys)
			if err != nil {
				return err
			}
			if !c.Server.TLS.UsesSecret() && !c.HTTP.TLS.UsesSecret() {
				fmt.Fprintf(a.Err, "Note: no listener in %s has tls = { mode = \"cluster-ca\" } yet\n", c.Path())
			}
			_, err = a.Out.Write(ca)
			return err
		}),
	}
}
