package cli

import "github.com/spf13/cobra"

func (a *App) handlerCommand() *cobra.Command {
	return group("handler", "Try handlers out", a.handlerTestCommand(), a.conformanceCommand())
}
