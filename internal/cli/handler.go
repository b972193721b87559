package cli

import "github.com/spf13/cobra"

func (a *App) handlerCommand() *cobra.Command {
	return group("handler", "Test handlers", a.handlerTestCommand(), a.conformanceCommand())
}
