package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/nats-io/nkeys"
	"github.com/spf13/cobra"

	"leasehold/internal/config"
	"leasehold/internal/smallfile"
	"leasehold/server/access"
)

func (a *App) userCommand() *cobra.Command {
	return group("user", "Create passwords, keys and tokens", a.userHashCommand(), a.userNKeyCommand(),
		a.userTokenCommand())
}

func (a *App) userHashCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hash",
		Short: "Hash a password for a user's password_file",
		Long: "Asks for a password, or reads it from the first line of stdin, and prints its bcrypt hash, for the " +
			"password_file of\n" +
			"a [[user]] on every node. The password itself stays with the client.",
		Example: "  leasehold user hash > /etc/leasehold/press-4.hash\n" +
			"  head -c 24 /dev/urandom | base64 | tee press-4.password | leasehold user hash > press-4.hash",
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			password, err := a.newPassword(cmd.Context())
			if err != nil {
				return err
			}
			hash, err := access.HashPassword(password)
			if err != nil {
				return usage("%s", err)
			}
			_, err = fmt.Fprintln(a.Out, hash)
			return err
		}),
	}
}

// newPassword asks twice at a terminal, where a slip of the finger cannot be seen.
func (a *App) newPassword(ctx context.Context) ([]byte, error) {
	if !isTerminal(a.In) {
		return firstLine(a.In)
	}
	first, err := a.askPassword(ctx, "Password: ")
	if err != nil {
		return nil, err
	}
	second, err := a.askPassword(ctx, "Again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, usage("the two passwords differ")
	}
	return first, nil
}

// firstLine reads a line without its end. What files of secrets hold is one line, with or without an end.
func firstLine(r io.Reader) ([]byte, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 4096)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

func (a *App) userNKeyCommand() *cobra.Command {
	var seedFile string
	cmd := &cobra.Command{
		Use:   "nkey",
		Short: "Create a key pair: the seed goes to a file, the public key is printed",
		Long: "Writes the seed, which is secret, to a new file that only you can read, for the client, and prints the " +
			"public key,\n" +
			"for `nkey` of a [[user]] on every node. Nothing on the nodes is secret then, and checking a key is cheap.",
		Example: "  leasehold user nkey --seed-file scanner.nk\n" +
			"  leasehold pub orders --key c-17 'hello' --server nats://10.0.0.11:4222 --nkey-file scanner.nk",
		Args: cobra.NoArgs,
		RunE: action(func(*cobra.Command, []string) error {
			pair, err := nkeys.CreateUser()
			if err != nil {
				return err
			}
			defer pair.Wipe()
			if err := writeSeed(seedFile, pair); err != nil {
				return err
			}
			public, err := pair.PublicKey()
			if err != nil {
				return err
			}
			fmt.Fprintf(a.Err, "The seed is in %s: keep it with the client. In every node's config: nkey = %q\n", seedFile,
				public)
			_, err = fmt.Fprintln(a.Out, public)
			return err
		}),
	}
	cmd.Flags().StringVar(&seedFile, "seed-file", "", "file to write the seed to; it must not exist (required)")
	_ = cmd.MarkFlagRequired("seed-file")
	return cmd
}

func writeSeed(path string, pair nkeys.KeyPair) error {
	seed, err := pair.Seed()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return failure(exitFailed, "choose another --seed-file, or remove it yourself",
			"%s exists already; nothing was written", path)
	}
	if err != nil {
		return fmt.Errorf("write the seed: %w", err)
	}
	return smallfile.WriteSynced(f, append(seed, '\n'))
}

func (a *App) userTokenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "token",
		Short: "Create a token for http.token_file",
		Long: "Prints a random token, for http.token_file on a node and --token-file of the clients of its HTTP port. The " +
			"token allows\n" +
			"everything that the port offers.",
		Example: "  (umask 077; leasehold user token > /etc/leasehold/http_token)\n" +
			"  leasehold status --addr 10.0.0.11:8222 --token-file ./http_token",
		Args: cobra.NoArgs,
		RunE: action(func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(a.Out, config.NewSecret())
			return err
		}),
	}
}
